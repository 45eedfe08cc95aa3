"""The steps of the ways, over workers that a test plays."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from segue.lab.ways import (
    backlog_zero,
    carry,
    drain,
    drain_counted,
    drain_observed,
    handoff,
    migrate_policy,
)
from segue.lab.ways.known import WAYS
from segue.lab.ways.leaving import GUARD_S, LIMIT_S, LOOK_S, Leaving, Way


class Watched:
    """Workers that leave, as a script has them; what was done to them is written down."""

    def __init__(self, half_open: list[set[int]], queued: list[int]) -> None:
        self.done: list[str] = []
        self._half_open, self._queued = iter(half_open), iter(queued)
        self.time = 0.0

    @property
    def now(self) -> float:
        return self.time

    def steer_away(self) -> None:
        self.done.append("steer away")

    def half_open(self) -> frozenset[int]:
        return frozenset(next(self._half_open))

    def queued(self) -> int:
        return next(self._queued)

    def set_backlog(self, backlog: int) -> None:
        self.done.append(f"backlog {backlog}")

    def accepted(self) -> int:
        return int(self.time / LOOK_S)

    def selected(self) -> int:
        return 7

    def hand_over(self) -> None:
        self.done.append("hand over")

    def carry(self) -> int:
        return next(self._queued)

    def close(self) -> None:
        self.done.append("close")

    def leave(self, way: Way) -> float:
        """By all the steps of the way; how long it took."""
        for pause in way.steps(cast("Leaving", self)):
            self.time += pause
        return self.time


def test_drain_observed_waits_for_the_requests_from_before_alone() -> None:
    """Not for those that came since, and then until nothing is queued."""
    leaving = Watched([{1, 2}, {1, 2, 3}, {3}, {3}], [4, 0])
    assert leaving.leave(drain_observed.WAY) == pytest.approx(2 * LOOK_S)
    assert leaving.done == ["steer away", "close"]


def test_no_way_waits_for_ever() -> None:
    """A client that never ends its handshake is let go of at the limit."""
    leaving = Watched([{1}] * 10_000, [1] * 10_000)
    assert leaving.leave(drain_observed.WAY) == pytest.approx(LIMIT_S, abs=2 * LOOK_S)
    assert leaving.done == ["steer away", "close"]


def test_drain_counted_waits_for_as_many_accepts_as_syns() -> None:
    """However many are queued or half-open."""
    leaving = Watched([], [])
    assert leaving.leave(drain_counted.WAY) == pytest.approx(7 * LOOK_S)
    assert leaving.done == ["steer away", "close"]


def test_drain_waits_for_its_guess_and_then_for_the_queue() -> None:
    """Whether or not anybody is half-open still."""
    leaving = Watched([], [2, 0])
    assert leaving.leave(drain.WAY) == pytest.approx(GUARD_S + LOOK_S)
    assert leaving.done == ["steer away", "close"]


@pytest.mark.parametrize(
    ("way", "done", "seconds"),
    [
        (backlog_zero.WAY, ["backlog 0", "close"], GUARD_S),
        (handoff.WAY, ["hand over", "close"], 0.0),
        (migrate_policy.WAY, ["steer away", "close"], 0.0),
        (carry.WAY, ["steer away", "close"], 2 * LOOK_S),
    ],
)
def test_a_way_does_its_steps_in_their_order(way: Way, done: list[str], seconds: float) -> None:
    """And a carry is tried again for as long as some are left."""
    leaving = Watched([], [3, 1, 0])
    assert leaving.leave(way) == pytest.approx(seconds)
    assert leaving.done == done


def test_the_page_tells_the_ways_as_the_table_does() -> None:
    """What each does, and what it needs."""
    page = (Path(__file__).parent.parent.parent / "docs" / "COMPARE.md").read_text()
    for one in WAYS.values():
        assert f"| `{one.name}` | {one.about} | {one.privilege} | {one.kernel} |" in page
