"""RLIMIT_MEMLOCK: lifted where bpf objects count against it, and back as it was."""

from __future__ import annotations

import contextlib
import errno
import resource
import sys
from collections.abc import Iterator

import pytest

from segue.errors import KernelError
from segue.linux import bpf, capability, memlock
from segue.linux.bpf_attr import BpfCommand, MapType
from segue.linux.bpf_maps import Map
from segue.linux.capability import Sets

WHICH = resource.RLIMIT_MEMLOCK
LITTLE = 4096


def limit() -> int:
    """The one in force; no limit is the highest of all."""
    now = resource.getrlimit(WHICH)[0]
    return sys.maxsize if now == resource.RLIM_INFINITY else now


@pytest.fixture
def little() -> Iterator[None]:
    """Less than any kernel's default."""
    before = resource.getrlimit(WHICH)
    resource.setrlimit(WHICH, (LITTLE, before[1]))
    yield
    resource.setrlimit(WHICH, before)


def test_the_limit_is_away_for_the_block_only(little: None) -> None:
    """Also where the block fails; workers that start later have what was there."""
    seen = []
    with contextlib.suppress(ZeroDivisionError), memlock.lifted():
        seen.append(limit())
        raise ZeroDivisionError
    assert seen[0] > limit() == LITTLE


def test_without_the_right_the_hard_limit_is_what_can_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit is asked for as far as it may be."""
    tried: list[tuple[int, int]] = []

    def setrlimit(which: int, wanted: tuple[int, int]) -> None:
        tried.append(wanted)
        if wanted[1] == resource.RLIM_INFINITY:
            raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (LITTLE, 8192))
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    with memlock.lifted():
        assert tried[-1] == (8192, 8192)
    assert tried[-1] == (LITTLE, 8192)


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A kernel that has no memory within any limit; the limits at each of its refusals."""
    seen: list[int] = []

    def command(which: BpfCommand, attributes: bytes) -> int:
        seen.append(limit())
        return -errno.EPERM

    monkeypatch.setattr(bpf, "command", command)
    return seen


def test_a_refusal_is_tried_again_without_the_limit(
    little: None, old: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map that does not fit is asked for a second time, and then the limit is named."""
    monkeypatch.setattr(capability, "mine", lambda: Sets(capability.bits(["bpf"]), 0, 0))
    with pytest.raises(KernelError, match=r"before Linux 5\.11, a higher RLIMIT_MEMLOCK"):
        Map.create(MapType.ARRAY, value_size=8, entries=4)
    first, second = old
    assert second > first == LITTLE


def test_who_lacks_the_capability_is_told_of_that(
    old: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not of a limit that would not help."""
    monkeypatch.setattr(capability, "mine", lambda: Sets(0, 0, 0))
    with pytest.raises(KernelError, match=r"it needs CAP_BPF, or root$"):
        Map.create(MapType.ARRAY, value_size=8, entries=4)
