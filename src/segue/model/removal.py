"""The end of a connection: out of the tables, and what its handshake held given back."""

from __future__ import annotations

from math import inf

from segue.model.connection import Connection
from segue.model.durations import FAST_OPEN_PENALTY
from segue.model.events import Readable
from segue.model.listener import Listener
from segue.model.net import Net
from segue.model.states import CLOSE, FIN_WAIT2, TIME_WAIT, Input

_WAIT = frozenset({TIME_WAIT, FIN_WAIT2})


def end(net: Net, connection: Connection, error: int = 0) -> None:
    """It is no more; the program's next call meets the error.

    A child that was not accepted stays in its queue all the same, with what it has received,
    as in Linux (FACTS, gone).
    """
    if connection.state is not CLOSE:
        waited = connection.state in _WAIT and not error
        connection.feed(Input.EXPIRED if waited else Input.RESET)
    _count_out(net, connection)
    connection.error = error or connection.error
    connection.outgoing = bytearray()
    connection.flying.clear()
    connection.early, connection.ranges = [], ()
    net.flows.pop(connection.flow, None)
    connection.reordering_at = connection.retransmit_at = connection.ack_at = connection.end_at = (
        connection.keep_at
    ) = inf
    net.timers.set(connection, inf)
    finish_fast_open(net, connection, reset=False)
    if connection.listener is None and not connection.orphan:
        net.events.append(Readable(connection.cookie))


def orphan(net: Net, connection: Connection) -> None:
    """No program has it any more."""
    connection.orphan = True
    connection.receive_shut = True
    if connection.state is not CLOSE and not connection.waiting:
        net.orphans += 1


def _count_out(net: Net, connection: Connection) -> None:
    if net.flows.get(connection.flow) is not connection:
        return
    if connection.waiting:
        net.time_waits -= 1
    elif connection.orphan:
        net.orphans -= 1


def finish_fast_open(net: Net, connection: Connection, *, reset: bool) -> None:
    """The handshake of a Fast Open child is over; its slot is free (reqsk_fastopen_remove).

    If its peer has ``reset`` it after its acceptance, which is what a spoofed cookie looks like,
    the slot is held for a minute, unless the listener is gone.
    """
    request = connection.request
    if request is None:
        return
    connection.request = None
    listener = request.listener
    listener.fast_open.used -= 1
    if reset and request.child is None and listener.listening:
        listener.fast_open.penalties.append(net.now + FAST_OPEN_PENALTY)
        listener.fast_open.used += 1
    release(listener)


def release(listener: Listener) -> None:
    """One request less refers to it; a closed one that nothing refers to leaves its group."""
    listener.references -= 1
    if listener.closed and not listener.references and listener.group is not None:
        listener.group.forget(listener)


def take_penalties(listener: Listener) -> None:
    """The slots that were held against spoofers are free (the end of inet_csk_listen_stop)."""
    listener.fast_open.used -= len(listener.fast_open.penalties)
    listener.fast_open.penalties.clear()
