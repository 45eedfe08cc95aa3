"""A group as a value: who is a stranger, who holds what, and when a connection is idle."""

from __future__ import annotations

from dataclasses import replace

import pytest

from segue.address import Address
from segue.group import Connection, Group, Listener

HERE = Address("127.0.0.1", 8000)
QUIET = Connection(1, 7, ("127.0.0.1", 4000), 1, unread=0, unsent=0, received_ms=50, sent_ms=30)


@pytest.mark.parametrize(
    ("unread", "got", "age_ms", "untouched"),
    [
        (0, 0, 3, True),  # accepted just now: its request is on the way
        (0, 0, 5000, False),  # a client that asks for nothing
        (90, 90, 3, True),
        (90, 90, 5000, True),  # it waits for a thread
        (90, 180, 3, False),  # a part of it has been read
        (0, 90, 3, False),
    ],
)
def test_a_connection_is_untouched_until_its_worker_has_read_of_it(
    unread: int, got: int, age_ms: int, untouched: bool
) -> None:
    """What it has read it knows, and finishes when it is told to stop."""
    one = QUIET._replace(
        unread=unread, bytes_received=got, received_ms=age_ms, sent_ms=age_ms, answered=False
    )
    assert one.untouched is untouched


@pytest.mark.parametrize(
    ("unread", "unsent", "received_ms", "sent_ms", "got", "idle"),
    [
        (0, 0, 50, 30, 10, 30),  # answered: since the answer
        (0, 0, 30, 50, 0, 30),  # nothing ever came: since it was made
        (0, 0, 30, 30, 10, 30),  # answered within the same millisecond
        (0, 0, 30, 50, 10, None),  # a request without its answer, however old
        (0, 0, 90_000, 99_000, 10, None),
        (1, 0, 50, 30, 10, None),  # the worker has not read all
        (0, 1, 50, 30, 10, None),  # the client does not have the whole answer
        (0, 0, 0, 0, 10, 0),
    ],
)
def test_when_a_connection_is_idle(
    unread: int, unsent: int, received_ms: int, sent_ms: int, got: int, idle: int | None
) -> None:
    """Only when nothing is owed and nothing in flight, and then since the last that moved."""
    one = QUIET._replace(
        unread=unread,
        unsent=unsent,
        received_ms=received_ms,
        sent_ms=sent_ms,
        bytes_received=got,
    )
    assert one.idle_ms == idle


def listener(cookie: int, queue: int = 0, backlog: int = 8) -> Listener:
    return Listener(cookie, HERE, 100 + cookie, 0, queue, backlog, 0)


@pytest.mark.parametrize(("queue", "full"), [(0, False), (8, False), (9, True)])
def test_a_queue_holds_one_more_than_its_backlog(queue: int, full: bool) -> None:
    """As sk_acceptq_is_full says."""
    assert listener(1, queue).full is full


def test_strangers_are_those_whose_cookie_is_not_ours() -> None:
    """In the order seen; a cookie of ours that is gone makes no difference."""
    group = Group(HERE, (listener(1), listener(2), listener(3)))
    assert [one.cookie for one in group.strangers(frozenset({2, 9}))] == [1, 3]
    assert group.by_cookie(2) == listener(2)
    assert group.by_cookie(9) is None


def test_siblings_are_equal_in_all_that_the_kernel_compares() -> None:
    """At one address, listeners of another user, interface or V6ONLY are in another group."""
    one, two = listener(1), listener(2)
    others = (
        replace(listener(3), uid=1000),
        replace(listener(4), interface=7),
        replace(listener(5), v6only=False),
    )
    group = Group(HERE, (one, two, *others))
    assert group.siblings(one) == (two,)
    assert [group.siblings(other) for other in others] == [(), (), ()]


def test_what_processes_hold() -> None:
    """By the owner of the inode; what is still queued belongs to nobody."""
    queued, one, two, lost = (
        QUIET._replace(cookie=number, inode=inode)
        for number, inode in enumerate((0, 11, 12, 13), start=1)
    )
    group = Group(HERE, connections=(queued, one, two, lost), owners={11: 500, 12: 501})
    assert group.held_by(frozenset({500})) == (one,)
    assert group.held_by(frozenset({500, 501})) == (one, two)
    assert group.held_by(frozenset()) == ()
    assert [each.accepted for each in group.connections] == [False, True, True, True]
