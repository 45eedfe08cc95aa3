"""The steps of the ways, over workers that a test plays."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from segue.lab.ways import drain_observed
from segue.lab.ways.known import WAYS
from segue.lab.ways.leaving import LIMIT_S, LOOK_S, Leaving, Way


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


def test_the_page_tells_the_ways_as_the_table_does() -> None:
    """What each does, and what it needs."""
    page = (Path(__file__).parent.parent.parent / "docs" / "COMPARE.md").read_text()
    for one in WAYS.values():
        assert f"| `{one.name}` | {one.about} | {one.privilege} | {one.kernel} |" in page
