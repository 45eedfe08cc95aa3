"""The memory that a connection has in reserve, on which it depends whether data goes the fast path.

Linux takes memory for a connection in pages, and keeps the rest of the last one (sk_forward_alloc).
A predicted segment that fits into the rest is read before its acknowledgement is looked at, as is
its stamp, also where it has no data (tcp_rcv_established).  That shows only where the
acknowledgement is too old to be believed.
"""

from __future__ import annotations

from segue.model import buffers
from segue.model.arrival import Arrival
from segue.model.connection import Connection
from segue.model.receive_memory import memory_of
from segue.model.states import ESTABLISHED
from segue.wire.seq import Seq, distance
from segue.wire.tcp import ACK, PSH

_PAGE = 4096


def is_predicted(connection: Connection, arrival: Arrival) -> bool:
    """It is nothing but what comes next, and there is memory for its data."""
    stamps = arrival.options.stamps if connection.terms.stamps else (0, 0)
    return bool(
        connection.state is ESTABLISHED
        and arrival.flags | PSH == ACK | PSH
        and arrival.seq == connection.rcv_nxt
        and not connection.early
        and not arrival.options.sack
        and arrival.window << connection.terms.scale_out == connection.snd_wnd
        and stamps is not None
        and (
            not connection.terms.stamps or distance(Seq(connection.ts_recent), Seq(stamps[0])) >= 0
        )
        and (not arrival.payload or memory_of(len(arrival.packet)) <= _reserve(connection))
    )


def _reserve(connection: Connection) -> int:
    """What is left of the last page: more than a page is given back (sk_mem_uncharge)."""
    waiting = connection.buffer.memory if connection.buffer is not None else 0
    return -(waiting + buffers.held(connection)) % _PAGE
