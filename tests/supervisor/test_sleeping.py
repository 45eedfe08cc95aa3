"""The connections of a worker that stalls, as they are between two lists."""

from __future__ import annotations

from segue.group import Connection
from segue.supervisor.workers.sleeping import Held, Sleeping


def held(inode: int, unread: int = 0) -> Held:
    seen = Connection(inode, inode, ("127.0.0.1", inode), 1, unread, 0, 500, 400)
    return Held(seen, b"", ((7, 3), (5, 4)))


def sleeping(*those: Held) -> Sleeping:
    made = Sleeping()
    made.listed(those, 1000, 1.0, 1.01)
    return made


def inodes(found: list[Held]) -> list[int]:
    return [one.seen.inode for one in found]


def test_those_that_ask_come_first_and_alone() -> None:
    """What others wait for is none of their business, until the stall has lasted."""
    made = sleeping(held(1), held(2), held(3))
    assert inodes(made.take([3, 99], 1000, rest=False)) == [3]
    assert inodes(made.take([2], 1000, rest=True)) == [2, 1]
    assert not made.take([1, 2, 3], 1000, rest=True), "each is taken once"


def test_they_grow_older() -> None:
    """Nothing is written meanwhile; a request that waits has come since."""
    (one,) = sleeping(held(1)).take([1], 1250, rest=False)
    assert (one.seen.received_ms, one.seen.sent_ms, one.seen.unread) == (750, 650, 1)
    (one,) = sleeping(held(1)).take([], 1250, rest=True)
    assert (one.seen.received_ms, one.seen.sent_ms, one.seen.unread) == (750, 650, 0)


def test_what_was_unread_when_they_were_listed_is_urgent() -> None:
    """The sample need not have it."""
    (one,) = sleeping(held(1, unread=60)).take([], 1000, rest=False)
    assert one.seen.unread == 60


def test_what_there_was_no_time_for_is_there_again() -> None:
    """As it was when they were listed."""
    made = sleeping(held(1))
    made.back(made.take([1], 1100, rest=False), 1100)
    assert made.left == 1
    (one,) = made.take([1], 1200, rest=False)
    assert (one.seen.received_ms, one.seen.sent_ms) == (700, 600)


def test_the_rest_goes_in_parts() -> None:
    """A client that asks meanwhile waits for no more than one."""
    made = sleeping(*(held(number) for number in range(1, 200)))
    first = inodes(made.take([], 1000, rest=True))
    assert 0 < len(first) < 100
    assert inodes(made.take([], 1000, rest=True))[0] == first[-1] + 1


def test_they_are_listed_again_as_it_costs() -> None:
    """A long list not so often."""
    made = sleeping(held(1))
    assert not made.due(1.2)
    assert made.due(1.3)
    made.listed([], 0, 1.0, 1.1)
    assert not made.due(1.9)
    assert made.due(2.2)


def test_processes_are_in_order() -> None:
    """They are stopped as one."""
    assert held(1).pids == (5, 7)
