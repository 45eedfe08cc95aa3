"""How much a program may write: Linux counts memory, in buffers of some segments each.

Stands for sk_wmem_queued, sk_sndbuf and the queue of tcp_sendmsg.  Where neither SO_SNDBUF nor
``tcp_wmem_default`` nor a limit of what is not sent was set, the room is ``tcp_wmem_max`` bytes.
"""

from __future__ import annotations

from segue.model.connection import INITIAL_WINDOW, Connection, half_window
from segue.model.events import Writable
from segue.model.net import Net
from segue.wire.seq import Seq, add, before, distance, later

_OVERHEAD = 832  # of a buffer without data: its head (MAX_TCP_HEADER), and what describes it
# MAX_TCP_HEADER, struct skb_shared_info and struct sk_buff, as they are aligned.
_LARGEST_HEADER, _SHARED_INFO, _RECORD = 256, 320, 256
LARGEST = 65535 - _LARGEST_HEADER  # data of one buffer (sk_gso_max_size)
_NO_LIMIT = 0xFFFFFFFF


def room(net: Net, connection: Connection) -> int:
    """Bytes that a write may put in before it looks again; 0 where there is no room."""
    limit, lowat = size(net, connection), _least_unsent(net, connection)
    if not limit and lowat == _NO_LIMIT:
        return max(0, net.sysctls.tcp_wmem_max - len(connection.outgoing))
    left = _goal(connection) - _tail(connection)
    if 0 < left < _goal(connection):
        return left
    full = bool(limit) and held(connection) >= limit
    return 0 if full or _unsent(connection) >= lowat else _goal(connection)


def has_room(net: Net, connection: Connection) -> bool:
    """So much that a program that waits for it is told (sk_stream_is_writeable)."""
    limit = size(net, connection)
    if not limit:
        limit, taken = net.sysctls.tcp_wmem_max, len(connection.outgoing)
    else:
        taken = held(connection)
    few = _unsent(connection) << 1 < _least_unsent(net, connection)
    return limit - taken >= taken >> 1 and few


def written(connection: Connection, *, begins: bool) -> None:
    """More was put in: into the last buffer, as far as there is room in it, and into new ones.

    With ``begins`` it is the first of a write, and that buffer has PSH no more.
    """
    end, pieces, goal = connection.end, connection.pieces, _goal(connection)
    pushes = False
    at = later(connection.snd_nxt, pieces[-1]) if pieces else connection.snd_nxt
    if pieces and before(connection.snd_nxt, pieces[-1]):
        start = later(connection.snd_nxt, pieces[-2]) if len(pieces) > 1 else connection.snd_nxt
        if distance(start, at) < goal:
            pushes = _take_push(connection, pieces.pop()) and not begins
            at = start
    while before(at, end):
        left = distance(at, end)
        at = end if left <= goal else add(at, goal)
        pieces.append(at)
        if pushes:
            connection.pushes += (at,)
            pushes = False


def push(connection: Connection) -> None:
    """What was written last is to be read at once (tcp_mark_push)."""
    end = connection.pushed = connection.end
    if end not in connection.pushes:
        connection.pushes += (end,)


def _take_push(connection: Connection, end: Seq) -> bool:
    """Whether the buffer that ends there has PSH; it has none any more."""
    if end not in connection.pushes:
        return False
    connection.pushes = tuple(one for one in connection.pushes if one != end)
    return True


def first(connection: Connection, most: int) -> int:
    """Bytes in the first that was not sent; as long as there are fewer than ``most`` it takes what
    it can of the next (tcp_grow_skb).
    """
    at, pieces = connection.snd_nxt, connection.pieces
    for place, end in enumerate(pieces):
        part = distance(at, end)
        if part <= 0:
            continue
        missing = most - part
        if missing > 0 and place + 1 < len(pieces):
            following = pieces[place + 1]
            grown = pieces[place] = add(end, min(missing, distance(end, following)))
            if grown == following:
                del pieces[place]
            if _take_push(connection, end) and grown not in connection.pushes:
                connection.pushes = (grown, *connection.pushes)
            part = distance(at, grown)
        return part
    return 0


def sent(connection: Connection) -> None:
    """What goes is cut off from what stays (tcp_fragment)."""
    at, pieces = connection.snd_nxt, connection.pieces
    while connection.pushes and not before(at, connection.pushes[0]):
        connection.pushes = connection.pushes[1:]  # they are in order
    for place, end in enumerate(pieces):
        if at == end:
            return
        if before(at, end):
            pieces.insert(place, at)
            return


def acknowledged(net: Net, connection: Connection) -> None:
    """Some are free; who waits for room is told."""
    pieces = connection.pieces
    gone = 0
    while gone < len(pieces) and not before(connection.snd_una, pieces[gone]):
        gone += 1
    del pieces[:gone]
    if connection.stalled:
        connection.send_buffer = _for_window(connection)
    held_by_program = connection.listener is None and not connection.orphan
    if connection.stalled and held_by_program and has_room(net, connection):
        connection.stalled = False
        net.events.append(Writable(connection.cookie))


def size(net: Net, connection: Connection) -> int:
    """SO_SNDBUF, or what it has grown to; 0 where no memory is counted."""
    told, usual = connection.options.get("SO_SNDBUF", 0), net.sysctls.tcp_wmem_default
    if told or not usual:
        return told
    grown = max(connection.send_buffer, _for_window(connection))
    return max(usual, min(grown, net.sysctls.tcp_wmem_max))


def _for_window(connection: Connection) -> int:
    """Room for two windows of segments (tcp_sndbuf_expand)."""
    segment = (connection.terms.mss + _LARGEST_HEADER + _SHARED_INFO - 1).bit_length()
    return 2 * max(INITIAL_WINDOW, connection.cwnd) * ((1 << segment) + _RECORD)


def _least_unsent(net: Net, connection: Connection) -> int:
    return connection.options.get("TCP_NOTSENT_LOWAT", 0) or net.sysctls.tcp_notsent_lowat


def _unsent(connection: Connection) -> int:
    return max(0, distance(connection.snd_nxt, connection.end))


def held(connection: Connection) -> int:
    """The memory of what was written and is not acknowledged."""
    return len(connection.outgoing) + _OVERHEAD * len(connection.pieces)


def _tail(connection: Connection) -> int:
    """Bytes in the last buffer, if nothing of it was sent yet."""
    pieces = connection.pieces
    if not pieces or not before(connection.snd_nxt, pieces[-1]):
        return 0
    begins: Seq = pieces[-2] if len(pieces) > 1 else connection.snd_nxt
    if before(begins, connection.snd_nxt):
        begins = connection.snd_nxt
    return distance(begins, connection.end)


def _goal(connection: Connection) -> int:
    """The most data in one buffer: half of the peer's largest window, in whole segments
    (tcp_xmit_size_goal).
    """
    size = connection.sending_size
    most = half_window(connection.snd_max_wnd, LARGEST, stamps=connection.terms.stamps)
    return max(size, most // size * size)
