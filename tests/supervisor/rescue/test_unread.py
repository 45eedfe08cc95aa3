"""Workers that do not read what has come: doubted, knocked at, and found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from tests.supervisor.rescue.doubles import PATIENCE, Knocking, World, worker

from segue.engine.carry_waiting import Unread
from segue.observe.stall import LOOKS
from segue.supervisor.rescue.rescue import Rescue
from segue.supervisor.rescue.unread import UnreadRequests
from segue.supervisor.rescue.watched import Thresholds

EVERY = PATIENCE / LOOKS
FIRST, SECOND = worker(1), worker(2)
SOCKETS = {1: frozenset({100, 101}), 2: frozenset({200})}


class Bell:
    """A number that no descriptor has."""

    def fileno(self) -> int:
        return 1 << 20


@dataclass
class Waiting:
    """As ``carry_waiting.Waiting``, turned by the test."""

    asked: bool = False
    armed: bool = False
    bell: Bell = field(default_factory=Bell)

    def came(self) -> bool:
        return self.asked

    def arm(self) -> None:
        self.armed = True

    def disarm(self) -> None:
        self.armed = False


@dataclass
class Samples:
    """As a Carrier, with requests that the test makes."""

    requests: list[Unread] = field(default_factory=list)
    waiting: Waiting = field(default_factory=Waiting)

    def unread(self) -> list[Unread]:
        return self.requests


class Desk:
    """Two workers; what their listeners get are knocks of ours and nothing else."""

    def __init__(self) -> None:
        self.world, self.knocking = World(FIRST, SECOND), Knocking()
        self.samples: Samples | None = Samples()
        self.asked: list[int] = []
        unread = UnreadRequests(lambda: self.samples, self._sockets, self.world.now)  # type: ignore[arg-type, return-value]
        self.rescue = Rescue(
            self.world,
            self.world.fronts,
            Thresholds(PATIENCE, EVERY),
            loop=self.world,
            say=self.world.said.append,
            knock=self.knocking,
            unread=unread,
        )
        self.rescue.prepare()

    def _sockets(self, number: int) -> frozenset[int] | None:
        self.asked.append(number)
        return SOCKETS[number]

    def ask(self, inode: int) -> None:
        """A request comes, and nobody reads it."""
        assert self.samples is not None
        self.samples.requests.append(Unread(self.world.time, inode, inode))
        self.samples.waiting.asked = True

    def read(self) -> None:
        """All of them are read."""
        assert self.samples is not None
        self.samples.requests.clear()

    def look(self, looks: int = 1) -> None:
        """So many looks; each knock waits in the queue of its listener until it is accepted."""
        for _ in range(looks):
            self.world.time += EVERY
            self.rescue.prepare()
            self.rescue.look()
            for one in self.knocking.made:
                waits = not one.accepted and not one.closed
                self.world.set_queue(one.at, int(waits))

    def close(self) -> None:
        self.rescue.close()
        self.world.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def test_a_worker_that_reads_and_accepts_nothing_is_found(desk: Desk) -> None:
    """Counted from when the request came, and nobody else is knocked at."""
    desk.ask(101)
    desk.look()
    assert [one.at for one in desk.knocking.made] == list(FIRST.listeners)
    desk.look(LOOKS - 2)
    assert not desk.rescue.stalls
    desk.look(2)
    assert set(desk.rescue.stalls) == {1}
    assert desk.rescue.stalls[1].queue == 0, "our own knock is no client"
    assert "a request waits unread" in desk.world.said[0]
    assert len(desk.knocking.made) == 1


def test_a_worker_that_accepts_is_not_found(desk: Desk) -> None:
    """It may have a reason not to read this one connection; it is asked again, but not at once."""
    desk.ask(101)
    for _ in range(3 * LOOKS):
        desk.look()
        desk.knocking.accept()
    assert not desk.rescue.stalls
    assert 1 <= len(desk.knocking.made) <= 2
    assert all(one.closed for one in desk.knocking.made)


def test_a_worker_that_reads_is_not_found(desk: Desk) -> None:
    """Requests that come and are read, with one that waits at each look, but never the same."""
    for _ in range(4 * LOOKS):
        desk.ask(100)
        desk.look()
        desk.knocking.accept()
        desk.read()
    assert not desk.rescue.stalls


def test_a_young_request_is_no_reason(desk: Desk) -> None:
    """A worker that is well needs some time for what it does."""
    desk.world.time += EVERY / 2
    desk.ask(100)
    desk.world.time -= EVERY / 2
    desk.look()
    assert not desk.knocking.made


def test_nobody_is_found_where_nobody_reads(desk: Desk) -> None:
    """To whom should its connections go?"""
    desk.ask(100)
    desk.ask(200)
    desk.look(4 * LOOKS)
    assert not desk.rescue.stalls


def test_connections_of_others_are_not_looked_for_at_each_look(desk: Desk) -> None:
    """Which worker has which is asked again after a while."""
    desk.ask(999)
    desk.look(LOOKS)
    assert desk.asked == [1, 2]
    assert not desk.knocking.made


def test_requests_keep_the_looks_going_and_begin_them(desk: Desk) -> None:
    """As connections do: a second without any ends them, and the bell rings at the next."""
    assert desk.samples is not None
    desk.look(20)
    desk.samples.waiting.asked = False
    for _ in range(int(1.2 / EVERY)):
        desk.look()
    waiting = desk.samples.waiting
    assert waiting.armed
    assert desk.rescue.due == float("inf")
    desk.world.handlers[waiting.bell.fileno()]()
    assert not desk.samples.waiting.armed
    assert desk.rescue.due < float("inf")


def test_a_request_before_the_bell_is_heard(desk: Desk) -> None:
    """It came after the last look, when there was no bell yet."""
    assert desk.samples is not None
    desk.ask(100)
    desk.samples.requests.clear()
    desk.samples.waiting.asked = False
    late = Unread(desk.world.time + 99.0, 100, 100)
    desk.samples.requests.append(late)
    for _ in range(int(1.2 / EVERY)):
        desk.look()
    assert not desk.samples.waiting.armed
    assert desk.rescue.due < float("inf")


def test_without_a_carry_everything_is_as_ever(desk: Desk) -> None:
    """Until there is something that knows of requests."""
    there, desk.samples = desk.samples, None
    desk.look(int(1.2 / EVERY))
    assert desk.rescue.due == float("inf")
    desk.samples = there
    desk.rescue.prepare()
    assert there is not None
    assert there.waiting.armed
