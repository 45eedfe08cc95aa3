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
from segue.model.states import State
from segue.wire.seq import Seq, distance
from segue.wire.tcp import ACK, PSH

_PAGE = 4096
_HEAD, _SHARED, _RECORD = 64, 320, 256  # NET_SKB_PAD, struct skb_shared_info, struct sk_buff
_SMALL = 576  # the least head of a buffer (SKB_SMALL_HEAD_CACHE_SIZE)


def received(connection: Connection, arrival: Arrival) -> None:
    """Its data waits to be read, in a buffer of its own or in the last one's room
    (tcp_try_coalesce).
    """
    if not connection.incoming:
        connection.waiting_memory = connection.waiting_room = 0
    size = _truesize(arrival)
    if len(arrival.payload) <= connection.waiting_room:
        connection.waiting_room -= len(arrival.payload)
        return
    connection.waiting_memory += size
    connection.waiting_room = size - _RECORD - _SHARED - _HEAD - len(arrival.packet)


def is_predicted(connection: Connection, arrival: Arrival) -> bool:
    """It is nothing but what comes next, and there is memory for its data."""
    stamps = arrival.options.stamps if connection.terms.stamps else (0, 0)
    return bool(
        connection.state is State.ESTABLISHED
        and arrival.flags | PSH == ACK | PSH
        and arrival.seq == connection.rcv_nxt
        and not connection.early
        and not arrival.options.sack
        and arrival.window << connection.terms.scale_out == connection.snd_wnd
        and stamps is not None
        and (
            not connection.terms.stamps or distance(Seq(connection.ts_recent), Seq(stamps[0])) >= 0
        )
        and (not arrival.payload or _truesize(arrival) <= _reserve(connection))
    )


def _reserve(connection: Connection) -> int:
    """What is left of the last page: more than a page is given back (sk_mem_uncharge)."""
    waiting = connection.waiting_memory if connection.incoming else 0
    return -(waiting + buffers.held(connection)) % _PAGE


def _truesize(arrival: Arrival) -> int:
    """Of the buffer in which Linux has the packet (SKB_TRUESIZE), whose head is a power of two."""
    head = _HEAD + len(arrival.packet) + _SHARED
    return (_SMALL if head <= _SMALL else 1 << (head - 1).bit_length()) + _RECORD
