"""How much more a connection is ready to receive, and what that depends on.

Linux counts memory: each segment waits in a buffer that takes more than its data, and the window is
what is left, by the share of data that full segments have (scaling_ratio).  It grows with each good
segment (tcp_grow_window), up to what the memory allows; and the memory grows with what a program
reads within a round trip (tcp_rcv_space_adjust), unless SO_RCVBUF has set it.

Left out: what even tcp_collapse makes no room for is dropped by Linux, and taken here.  No window
has promised so much yet.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from segue.model.durations import STAMP_TICK
from segue.model.receive_memory import SHARE, ReceiveBuffer, memory_of
from segue.model.request import STAMPS_SIZE
from segue.wire.seq import add, before, distance

if TYPE_CHECKING:
    from segue.model.arrival import Arrival
    from segue.model.connection import Connection
    from segue.model.net import Net

_LEAST_SIZE, _USUAL_SIZE = 88, 536  # TCP_MIN_MSS, TCP_MSS_DEFAULT
_HEADER = 20
_LEAST_GOOD = 128  # bytes of a segment with which the window may grow (tcp_event_data_recv)
_FIRST_SPACE = 10  # segments (TCP_INIT_CWND)
_LEAST_CLAMP = 1152  # SOCK_MIN_RCVBUF / 2
_MOST = 0xFFFF  # of the field in the header


def of(net: Net, connection: Connection) -> ReceiveBuffer:
    """The one of a connection, made when it is asked for first (tcp_init_buffer_space)."""
    made = connection.buffer
    if made is None:
        made = connection.buffer = _made(net, connection)
    return made


def _made(net: Net, connection: Connection) -> ReceiveBuffer:
    terms = connection.terms
    told = connection.options.get("SO_RCVBUF", 0)
    limit = told or net.sysctls.tcp_rmem_default
    size, first = terms.our_mss, _offered(connection)
    if terms.stamps and connection.request is None:
        size -= STAMPS_SIZE
    full = limit * SHARE >> 8
    clamp = min(_MOST << (terms.scale_in or 0), full)
    if clamp > 2 * size and clamp + size > full:
        clamp = max(2 * size, full - size)
    threshold = min(first, clamp)
    hint = min(terms.our_mss, connection.full_size, first // 2, _USUAL_SIZE)
    return ReceiveBuffer(
        limit=limit,
        fixed=bool(told),
        advertised=size,
        clamp=clamp,
        threshold=threshold,
        typical=max(hint, _LEAST_SIZE),
        space=min(threshold, first, _FIRST_SPACE * size),
        measured_from=connection.rcv_nxt,
        measured_at=connection.made_at,
    )


def set_to(net: Net, connection: Connection, size: int) -> None:
    """SO_RCVBUF of a connection: its memory is so much from now on, and does not grow by itself."""
    buffer = of(net, connection)
    buffer.limit, buffer.fixed = size, True


def note(net: Net, connection: Connection, arrival: Arrival) -> None:
    """Data has come in its turn: what it tells of the peer's segments and of the round trip."""
    buffer = connection.buffer or of(net, connection)
    _note_size(buffer, connection, arrival)
    if buffer.round_at == -inf or not before(connection.rcv_nxt, buffer.round_end):
        _note_round(net, connection, buffer)


def lacks(connection: Connection) -> bool:
    """More memory is taken than there should be."""
    buffer = connection.buffer
    if buffer is None:
        return False
    if not connection.early:
        return buffer.memory > buffer.limit
    return buffer.memory + early_memory(connection) > buffer.limit


def make_room(net: Net, connection: Connection) -> None:
    """There is to be more memory, or, where that is fixed, less is to come (tcp_prune_queue)."""
    buffer, most = of(net, connection), net.sysctls.tcp_rmem_max
    connection.quick = 0
    if not buffer.fixed and buffer.limit < most:
        buffer.limit = min(buffer.memory + early_memory(connection), most)
    if lacks(connection):
        buffer.threshold = min(buffer.clamp, 2 * buffer.advertised)
        buffer.collapse(len(connection.incoming))


def grow(net: Net, connection: Connection, arrival: Arrival) -> None:
    """The window grows by two segments, if so much data would fit with such an overhead
    (tcp_grow_window).
    """
    buffer = connection.buffer or of(net, connection)
    if buffer.threshold < buffer.clamp and len(arrival.payload) >= _LEAST_GOOD:
        _grow(net, connection, buffer, arrival)


def early(net: Net, connection: Connection, arrival: Arrival) -> None:
    """It is not its turn yet (tcp_data_queue_ofo)."""
    buffer = of(net, connection)
    _note_size(buffer, connection, arrival)
    # Without SACK the window says the same in each ACK, so that they count as duplicates.
    if connection.terms.sack and buffer.threshold < buffer.clamp:
        _grow(net, connection, buffer, arrival)
    if connection.listener is None and not connection.orphan:
        _grow_memory(net, connection, buffer, buffer.space)


def _note_size(buffer: ReceiveBuffer, connection: Connection, arrival: Arrival) -> None:
    """What full segments have (tcp_measure_rcv_mss)."""
    size = len(arrival.payload)
    last, buffer.last_size = buffer.last_size, 0
    if size >= buffer.typical:
        if size != buffer.typical:
            _note_share(connection, buffer, size, len(arrival.packet))
        buffer.typical = min(size, buffer.advertised)
        if arrival.pushes:
            buffer.pushed = buffer.pushed or 1
        return
    header = _HEADER + len(arrival.raw_options)
    usual = size + header >= _USUAL_SIZE + _HEADER
    if usual or (size + header >= _LEAST_SIZE + _HEADER and not arrival.ends):
        buffer.last_size = size + header - _HEADER - STAMPS_SIZE * connection.terms.stamps
        if buffer.last_size == last:
            buffer.typical = last
            return
    buffer.pushed = min(buffer.pushed + 1, 2)


def _note_share(connection: Connection, buffer: ReceiveBuffer, size: int, packet: int) -> None:
    """The window follows (tcp_set_window_clamp)."""
    share = (size << 8) // memory_of(packet) or 1
    if share == buffer.share:
        return
    had, buffer.share = buffer.clamp, share
    clamp = buffer.clamp = max(buffer.limit * share >> 8, _LEAST_CLAMP)
    if clamp < had:
        buffer.threshold = min(buffer.threshold, clamp)
    elif clamp > had:
        buffer.threshold = max(buffer.threshold, min(_offered(connection), clamp))
    buffer.space = min(buffer.space, clamp)


def _offered(connection: Connection) -> int:
    """The window that was told last (rcv_wnd)."""
    return distance(connection.sent_ack, connection.offered_edge)


def note_echo(net: Net, connection: Connection, arrival: Arrival) -> None:
    """A round trip by the stamp that came back with data, and was not looked at yet
    (tcp_rcv_rtt_measure_ts).
    """
    echo, buffer = connection.echo, of(net, connection)
    connection.told_echo = echo
    if arrival.length < buffer.typical:
        return
    took = (net.stamp(connection.ts_offset) - echo & 0xFFFFFFFF) * STAMP_TICK
    if not 0 < took < 2000:
        return
    known = buffer.round_trip
    if known < 0 or took < known:
        buffer.round_trip = took
    elif not connection.incoming:
        buffer.round_trip += (took - known) / 8


def _note_round(net: Net, connection: Connection, buffer: ReceiveBuffer) -> None:
    """A round trip by the time that a window takes (tcp_rcv_rtt_measure)."""
    if buffer.round_at != -inf:
        took = max(net.now - buffer.round_at, 0.000001)
        if not 0 <= buffer.round_trip <= took:
            buffer.round_trip = took
    buffer.round_end = add(connection.rcv_nxt, _offered(connection))
    buffer.round_at = net.now


def _free(connection: Connection, buffer: ReceiveBuffer) -> int:
    """What is left of the memory, as bytes of data (tcp_space)."""
    taken = buffer.memory
    if connection.early:
        taken += early_memory(connection)
    return (buffer.limit - taken) * buffer.share >> 8


def early_memory(connection: Connection) -> int:
    """Of what waits for its turn."""
    header = connection.header_size
    return sum(memory_of(header + len(data)) for _, data in connection.early)


def _grow(net: Net, connection: Connection, buffer: ReceiveBuffer, arrival: Arrival) -> None:
    free = _free(connection, buffer)
    if free <= buffer.threshold:
        return
    room = min(buffer.clamp, free) - buffer.threshold
    size = len(arrival.payload)
    takes = memory_of(len(arrival.packet)) * buffer.share >> 8
    if takes <= size:
        more = 2 * buffer.advertised
    else:
        more = 0
        takes, window = takes >> 1, (net.sysctls.tcp_rmem_max * buffer.share >> 8) >> 1
        while buffer.threshold <= window:
            if takes <= size:
                more = 2 * buffer.typical
                break
            takes, window = takes >> 1, window >> 1
    if more:
        buffer.threshold += min(room, max(more, 2 * size))
        connection.quick |= 1


def _grow_memory(net: Net, connection: Connection, buffer: ReceiveBuffer, space: int) -> None:
    """Room for twice of what was read in a round trip, or more if it becomes more
    (tcp_rcvbuf_grow).
    """
    had, buffer.space = buffer.space, space
    if buffer.fixed or not net.sysctls.tcp_moderate_rcvbuf:
        return
    window = 2 * space
    window += (window * (space - had) // had) << 1
    if connection.early:
        at, data = connection.early[-1]
        window += at + len(data) - distance(connection.origin, connection.rcv_nxt)
    limit = min((window << 8) // buffer.share, net.sysctls.tcp_rmem_max)
    if limit > buffer.limit:
        buffer.limit = limit
        buffer.clamp = limit * buffer.share >> 8


def taken(net: Net, connection: Connection, size: int) -> None:
    """The program has read so much: some memory is free, and there may be more of it from now on
    (tcp_rcv_space_adjust).  What is read is still in ``incoming``.
    """
    buffer = of(net, connection)
    begun = buffer.queued - len(connection.incoming)
    read = min(size, buffer.buffers[0][0] - begun) if buffer.buffers else size
    if 0 <= buffer.round_trip <= net.now - buffer.measured_at:
        # Linux looks after the first of the buffers that are read; the others follow at once.
        waiting = len(connection.incoming) - read
        place = add(connection.rcv_nxt, -waiting - connection.peer_ended)
        copied = distance(buffer.measured_from, place) - waiting
        if copied > buffer.space:
            _grow_memory(net, connection, buffer, copied)
        buffer.measured_from, buffer.measured_at = place, net.now
    buffer.free(begun + size)


def select(connection: Connection, buffer: ReceiveBuffer) -> int:
    """The window that we should like to offer (__tcp_select_window)."""
    scale = connection.terms.scale_in or 0
    free = _free(connection, buffer)
    allowed = buffer.limit * buffer.share >> 8
    full = min(buffer.clamp, allowed)
    size = min(buffer.typical, full)
    if size <= 0:
        return 0
    if free < full >> 1:
        connection.quick = 0
        free = free >> scale << scale
        if free < allowed >> 4 or free < size:
            return 0
    free = min(free, buffer.threshold)
    if scale:
        return -(-free >> scale) << scale
    window = _offered(connection)
    if window <= free - size or window > free:
        return free - free % size
    if size == full and free > window + (full >> 1):
        return free
    return window


def window(connection: Connection) -> int:
    """The window for the next segment, as the header has it; the right edge never goes back
    (tcp_select_window).
    """
    scale = connection.terms.scale_in or 0
    offered = max(0, distance(connection.rcv_nxt, connection.offered_edge))
    buffer = connection.buffer
    # Without data there is nothing new to tell.
    wanted = 0 if buffer is None else select(connection, buffer)
    if wanted < offered:
        wanted = -(-offered >> scale) << scale
    connection.offered_edge = add(connection.rcv_nxt, wanted)
    connection.sent_ack = connection.rcv_nxt
    return min(wanted >> scale, _MOST)


def is_news(connection: Connection) -> bool:
    """After a read: the peer is told of twice as much room as it thinks that there is, or of all
    that it has sent where something small was at its end (tcp_cleanup_rbuf).
    """
    buffer = connection.buffer
    if buffer is None:
        return False
    if connection.ack_at != inf:
        if distance(connection.sent_ack, connection.rcv_nxt) > buffer.typical:
            return True
        waits = buffer.pushed == 1 and connection.interactive
        if buffer.pushed and not waits and not buffer.memory and not connection.early:
            return True
    if connection.receive_shut or connection.peer_ended:
        return False
    offered = max(0, distance(connection.rcv_nxt, connection.offered_edge))
    if 2 * offered > buffer.clamp:
        return False
    wanted = select(connection, buffer)
    return bool(wanted) and wanted >= 2 * offered
