"""The looks for workers that hang: what is read of whom, and what is said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.supervisor.rescue.doubles import World, worker

from segue.errors import KernelError
from segue.supervisor.rescue.hangs import Hangs


class Desk(World):
    """Two workers of which everything can be seen."""

    def __init__(self) -> None:
        super().__init__(worker(1), worker(2))
        self.inodes: dict[int, frozenset[int] | None] = {1: frozenset({10}), 2: frozenset({20})}
        self.read: list[int] = []  # whose sockets were
        self.hangs = Hangs(self, self.fronts, 0.0, self.said.append)

    def sockets(self, number: int) -> frozenset[int] | None:
        if self.refuses:
            raise KernelError("readlink", 12, "asking the test")
        self.read.append(number)
        return self.inodes[number]

    def wait(self, number: int, count: int) -> None:
        self.queues[self.workers[number].listeners[0].cookie] = count

    def pass_time(self, *stalled: int, times: int = 1) -> None:
        """So many looks."""
        for _ in range(times):
            self.time += 1.0
            self.hangs.step(self.time, stalled)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def test_who_accepts_nothing_is_known_and_said_after_a_while_and_once(desk: Desk) -> None:
    """With how many wait, and when it is over; a queue of a moment is nobody's hang."""
    desk.wait(1, 3)
    desk.wait(2, 1)
    desk.pass_time()
    desk.wait(2, 0)
    desk.pass_time(times=3)
    assert list(desk.hangs.hangs) == [1]
    assert str(desk.hangs.hangs[1]) == "accepts nothing for 3 s, 3 wait"
    assert desk.said == []
    desk.pass_time(times=30)
    assert desk.said == ["worker 1.1 accepts nothing for 11 s, 3 wait"]
    desk.wait(1, 0)
    desk.pass_time(times=2)
    assert desk.hangs.hangs == {}
    assert desk.said[1:] == ["worker 1.1 accepts again"]


def test_who_accepts_slowly_does_not_hang(desk: Desk) -> None:
    """One connection in each interval, while others arrive."""
    desk.wait(1, 3)
    for number in range(20):
        desk.fronts[0].counted[1] += 1
        desk.inodes[1] = frozenset({10 + number})
        desk.pass_time()
    assert desk.hangs.hangs == {}


def test_nothing_is_read_of_workers_at_which_nobody_waits(desk: Desk) -> None:
    """Nor at the first look at which somebody does: most queues are gone at the next."""
    desk.pass_time(times=3)
    desk.wait(1, 1)
    desk.pass_time()
    assert desk.read == []
    desk.pass_time()
    assert desk.read == [1]


def test_those_that_rescue_looks_after_are_left_to_it(desk: Desk) -> None:
    """Our own knocks wait in their queues."""
    desk.wait(1, 1)
    desk.pass_time(1, times=5)
    assert desk.hangs.hangs == {}


def test_a_look_that_is_refused_is_made_again_later(desk: Desk) -> None:
    """And what was known until then is known still."""
    desk.wait(1, 1)
    desk.pass_time(times=4)
    before = dict(desk.hangs.hangs)
    desk.refuses = True
    with pytest.raises(KernelError):
        desk.pass_time()
    assert desk.hangs.hangs == before
    desk.refuses = False
    desk.pass_time()
    assert desk.hangs.hangs[1].seconds == 5.0
