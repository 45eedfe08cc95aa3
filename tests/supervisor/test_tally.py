"""Which connections count as in use, by worker, and which of them is the witness."""

from __future__ import annotations

import math

import pytest

from segue.group import Connection
from segue.supervisor.workers.tally import Tally, seconds_in_use, tally


def idle_for(seconds: float, inode: int = 7) -> Connection:
    """Answered, and nothing has moved on it for so long."""
    ms = round(1000 * seconds)
    return Connection(inode, inode, ("::1", inode), 1, 0, 0, ms + 1, ms, bytes_received=10)


def owing(inode: int = 7) -> Connection:
    """A request came in and nothing has gone out since."""
    return Connection(inode, inode, ("::1", inode), 1, 0, 0, 5, 90, bytes_received=10)


@pytest.mark.parametrize(
    ("connection", "left"),
    [
        (idle_for(0.0), 1.0),
        (idle_for(0.75), 0.25),
        (idle_for(1.0), 0.0),
        (idle_for(9.0), 0.0),
        (owing(), math.inf),
        (idle_for(9.0)._replace(unsent=1), math.inf),
    ],
)
def test_how_long_a_connection_is_in_use(connection: Connection, left: float) -> None:
    """For the rest of the grace; with an answer owed or bytes in flight, nobody knows."""
    assert seconds_in_use(connection, 1.0) == left


def test_each_workers_connections_are_counted() -> None:
    """By the worker that holds the inode; what nobody of them holds is not counted."""
    seen = [idle_for(2, 11), idle_for(0.5, 12), owing(13), idle_for(3, 21), owing(99), owing(0)]
    seen[2] = seen[2]._replace(unread=10)
    assert tally(seen, {11: 1, 12: 1, 13: 1, 21: 2}, 1.0) == {
        1: Tally(untouched=1, busy=2, idle=1, witness=seen[2]),
        2: Tally(idle=1),
    }


def test_the_witness_is_the_one_in_use_for_longest() -> None:
    """An owed answer before all others, else the one that moved last; the first among equals."""
    young, old = idle_for(0.1, 11), idle_for(0.9, 12)
    holds = {11: 1, 12: 1, 13: 1, 14: 1}
    assert tally([old, young], holds, 1.0)[1].witness is young
    first, second = owing(13), owing(14)
    assert tally([young, first, old, second], holds, 1.0)[1].witness is first
