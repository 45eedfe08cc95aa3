"""Malformed packets by chance: a part of what ``python -m bench fuzz packets`` does."""

from __future__ import annotations

import random

import pytest
from bench.fuzz import packets as fuzz
from bench.malformed import Flow, packet, put_right, well_formed

from segue.model import time_wait
from segue.model.listener import Listener


@pytest.mark.parametrize("seed", range(8))
def test_no_packet_breaks_the_model(seed: int) -> None:
    """No exception, no structure beyond its bound, and nothing left after the end."""
    packets, wrong = fuzz.run(seed)
    assert not wrong, wrong
    assert packets == fuzz.PACKETS


def test_a_seed_is_the_same_run_again() -> None:
    """So that what was found can be looked at."""
    first, again = fuzz.Run(7), fuzz.Run(7)
    first.go(500)
    again.go(500)
    assert first.host.counts == again.host.counts


def test_most_packets_get_deeper_than_the_checksums() -> None:
    """Else only the first lines were tried."""
    counts = [fuzz.Run(seed) for seed in range(5)]
    for one in counts:
        one.go()
    refused = sum(one.host.counts["InErrs"] for one in counts)
    assert 0 < refused < sum(one.packets for one in counts) / 3


def test_checksums_are_put_right() -> None:
    """Whatever was changed before."""
    flow = Flow(bytes((10, 77, 0, 1, 10, 77, 0, 2)), b"\x4e\x20\x00\x50", wild=0.0)
    made = bytearray(packet(random.Random(1), flow))
    assert well_formed(bytes(made))
    made[-1] ^= 1
    assert not well_formed(bytes(made))
    put_right(made)
    assert well_formed(bytes(made))


def test_a_listener_without_a_limit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds would notice it."""
    monkeypatch.setattr(Listener, "requests_full", False)
    monkeypatch.setattr(fuzz, "_BACKLOGS", (0,))
    found = [fuzz.run(seed)[1] for seed in range(6)]
    assert any("half-open requests" in one for one in found)


def test_an_exception_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """And told with its seed."""

    def wrong(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(time_wait, "arrived", wrong)
    found = [fuzz.run(seed)[1] for seed in range(20)]
    assert any("ZeroDivisionError" in one and one.startswith("seed ") for one in found)
