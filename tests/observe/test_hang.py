"""When a worker counts as one that accepts nothing, although nobody else is awake."""

from __future__ import annotations

from dataclasses import replace

from segue.linux.schedstat import Scheduled
from segue.observe.hang import Sight, Silence, follow

MAIN = 7  # a thread
OPEN = frozenset({10, 11})  # sockets of the worker


def asleep(at: float, waited: float = 0.0) -> dict[int, Scheduled]:
    """A thread that ran for nothing and waited so long for a processor until then."""
    return {MAIN: Scheduled(int(1e6 * at), int(1e9 * waited), runnable=False)}


def sight(at: float, queue: int, selected: int | None = None, **more: object) -> Sight:
    """A look at which everything can be seen."""
    usual = {"sockets": OPEN, "threads": asleep(at), **more}
    return Sight(at, queue, selected, **usual)  # type: ignore[arg-type]


def watched(*sights: Sight) -> Silence:
    """The silence after all of these looks."""
    found = None
    for one in sights:
        found = follow(found, one)
    assert found is not None
    return found


def test_a_worker_that_accepts_nothing_is_silent_from_the_first_look_on() -> None:
    """All that was selected for it is in its queue."""
    found = watched(sight(10, 2, 102), sight(11, 2, 102), sight(12, 9, 109))
    assert (found.since, found.able) == (10, 2.0)


def test_a_queue_that_is_shorter_shows_an_accept() -> None:
    """Whatever the counters and sockets say."""
    found = watched(sight(10, 5, 105), sight(11, 4, 105), sight(12, 4, 105))
    assert (found.since, found.able) == (11, 1.0)


def test_accepts_behind_arrivals_are_counted_and_make_sockets() -> None:
    """As many came as were accepted: the queue is as long as before."""
    accepted = frozenset({10, 12})
    found = watched(sight(10, 5, 105), sight(11, 5, 108, sockets=accepted))
    assert (found.since, found.able) == (11, 0.0)


def test_connections_that_came_to_nothing_hide_no_hang() -> None:
    """A SYN that is dropped at a full queue, or of a scanner: counted, and no socket is made."""
    found = watched(sight(10, 5, 105), sight(11, 5, 205), sight(12, 5, 305))
    assert (found.since, found.able) == (10, 2.0)


def test_sockets_that_a_thread_opens_hide_no_hang_where_connections_are_counted() -> None:
    """A connection to a database, while nothing was accepted."""
    found = watched(sight(10, 5, 105), sight(11, 6, 106, sockets=OPEN | {99}))
    assert found.since == 10


def test_without_a_proof_a_worker_is_believed_to_accept() -> None:
    """Nothing is counted, and its sockets cannot be seen, at one of the looks or at both."""
    for first, then in ((OPEN, None), (None, OPEN), (None, None)):
        found = watched(sight(10, 5, sockets=first), sight(11, 5, sockets=then))
        assert found.since == 11
    assert watched(sight(10, 5), sight(11, 5)).since == 10  # its sockets alone tell


def test_time_without_a_processor_does_not_count() -> None:
    """It waited for one most of the second; the second after, it could have accepted."""
    found = watched(
        sight(10, 2, 102),
        sight(11, 2, 102, threads=asleep(11, waited=0.75)),
        sight(12, 2, 102, threads=asleep(12, waited=0.75)),
    )
    assert (found.since, found.able) == (10, 1.25)


def test_time_of_which_nothing_is_known_does_not_count() -> None:
    """Threads are read from the second look on."""
    first = replace(sight(10, 2, 102), sockets=None, threads=None)
    found = watched(first, sight(11, 2, 102), sight(12, 2, 102))
    assert (found.since, found.able) == (10, 1.0)
