"""The looks at one instance: of which time the rates are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.watch.test_drawing import FRONT, STATUS, worker

from segue.errors import SegueError
from segue.supervisor.control import client
from segue.supervisor.control.instances import Running
from segue.supervisor.control.status import Reader, Status
from segue.watch import feed
from segue.watch.feed import Feed
from segue.watch.sample import Rates


class Looked:
    """A feed on a clock of ours, whose instance has got so many connections by then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.new, self.answers = 0.0, 0, True
        monkeypatch.setattr(client, "status", self._status)
        monkeypatch.setattr(feed, "read", lambda _: [])
        self.feed = Feed(Running("shop", "/run/shop.sock", 0), now=lambda: self.now)

    def _status(self, *_: object) -> Status:
        if not self.answers:
            raise SegueError("no process listens")
        front = replace(FRONT, counts={"new": self.new})
        return replace(STATUS, fronts=(front,), workers=(worker(3, new=self.new),))

    def at(self, now: float, new: int) -> Rates:
        self.now, self.new = now, new
        return self.feed.look()[1]


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Looked:
    return Looked(monkeypatch)


def test_rates_stand_for_a_second(looked: Looked) -> None:
    """However often there is a look; they are of all that came in that second."""
    assert looked.at(0.0, 100) == Rates()
    assert looked.at(0.5, 300) == Rates()
    first = looked.at(1.0, 400)
    assert (first.new, first.workers) == (300.0, {3: 300.0})
    assert looked.at(1.1, 900) is first
    assert looked.at(1.9, 900) is first
    assert looked.at(2.0, 900).new == 500.0


def test_only_a_look_that_makes_rates_reads_what_they_are_made_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Most looks of ten a second need not know how many connections each worker has got."""
    unseen: list[frozenset[str]] = []

    def status(_: Running, reader: Reader) -> Status:
        unseen.append(reader.unseen)
        return STATUS

    monkeypatch.setattr(client, "status", status)
    monkeypatch.setattr(feed, "read", lambda _: [])
    times = iter([0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.5, 1.5])
    looked = Feed(Running("shop", "/run/shop.sock", 0), now=lambda: next(times))
    for _ in range(4):
        looked.look()
    assert [sorted(one) for one in unseen] == [[], ["given", "new"], [], ["given", "new"]]


def test_rates_of_rare_looks_are_of_the_time_between_them(looked: Looked) -> None:
    """Each look has new ones."""
    assert looked.at(0.0, 0) == Rates()
    assert [looked.at(5.0, 50).new, looked.at(10.0, 150).new] == [10.0, 20.0]


def test_without_an_answer_there_are_no_rates(looked: Looked) -> None:
    """Who answers next may count anew: its rates begin a second later."""
    looked.at(0.0, 0)
    assert looked.at(1.0, 10).new == 10.0
    looked.answers = False
    assert looked.at(1.1, 0) == Rates()
    looked.answers = True
    assert looked.at(1.25, 5) == Rates()
    assert looked.at(2.25, 15).new == 10.0
