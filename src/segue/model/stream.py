"""The program's side of an accepted connection: read, write, shutdown, close (net/ipv4/tcp.c)."""

from __future__ import annotations

import errno
from math import inf

from segue.errors import KernelError
from segue.model import buffers, output, receive_window, removal, time_wait
from segue.model.connection import Connection
from segue.model.net import Net
from segue.model.states import CAN_SEND, CLOSE, FIN_WAIT2, NEED_RESET, SYN_RECV, TIME_WAIT, State
from segue.wire.seq import before, distance

_GONE = frozenset({CLOSE, TIME_WAIT})  # in both Linux's socket is closed
_CLOSING = frozenset({State.CLOSING, State.LAST_ACK})


def read(net: Net, connection: Connection, most: int) -> bytes:
    """What has arrived, up to so much; b"" when the peer has ended.

    Raises KernelError: EAGAIN when nothing waits, or what the connection died of, once.
    """
    waiting = connection.incoming
    data = bytes(waiting if len(waiting) <= most else waiting[:most])
    if data:
        receive_window.taken(net, connection, len(data))
        del connection.incoming[: len(data)]
        if connection.state is not CLOSE and receive_window.is_news(connection):
            output.acknowledge(net, connection)
            output.rearm(net, connection)
        return data
    if connection.peer_ended:
        return b""  # whatever became of it since: only writing gives the error (SOCK_DONE)
    if connection.error:
        error, connection.error = connection.error, 0
        raise KernelError("recv", error, "reading from a connection")
    if connection.receive_shut or connection.state is CLOSE:
        return b""
    raise KernelError("recv", errno.EAGAIN, "reading from a connection")


def write(net: Net, connection: Connection, data: bytes, *, more: bool = False) -> int:
    """Take as much as there is room for; how much that is.  With ``more`` a small segment waits for
    what is written next (MSG_MORE).

    Raises KernelError: EAGAIN when there is no room, EPIPE when nothing can be sent any more, or
    what the connection died of, once.
    """
    if connection.error:
        error, connection.error = connection.error, 0
        raise KernelError("send", error, "writing to a connection")
    if connection.fin_wanted or connection.fin_later or connection.state not in CAN_SEND:
        raise KernelError("send", errno.EPIPE, "writing to a connection")
    output.idle_before(net, connection)
    taken = 0
    while taken < len(data):
        room = buffers.room(net, connection)
        if not room:
            connection.stalled = True
            if taken:
                buffers.push(connection)
                output.transmit(net, connection, push=True)
            break
        part = data[taken : taken + room]
        taken += len(part)
        connection.outgoing += part
        buffers.written(connection, begins=taken == len(part))
        if taken < len(data):
            _push_full(net, connection)
            continue
        if not more:
            buffers.push(connection)
        output.transmit(net, connection, more=more)
    if data and not taken:
        raise KernelError("send", errno.EAGAIN, "writing to a connection")
    output.rearm(net, connection)
    return taken


def _push_full(net: Net, connection: Connection) -> None:
    """A buffer is full, and more is to be written: it goes if half of the peer's largest window was
    written since this was done last, or if nothing is before it (tcp_sendmsg_locked).
    """
    end = connection.end
    if distance(connection.pushed, end) > connection.snd_max_wnd >> 1:
        buffers.push(connection)
        output.transmit(net, connection, push=True)
    elif buffers.first(connection, 0) == distance(connection.snd_nxt, end):
        output.transmit(net, connection, push=True, one=True)


def shut(net: Net, connection: Connection, *, receive: bool, send: bool) -> None:
    """shutdown(2).  Raises KernelError: ENOTCONN when it is over."""
    if connection.state in _GONE:
        raise KernelError("shutdown", errno.ENOTCONN, "shutting a connection down")
    if receive:
        connection.receive_shut = True
    if send and connection.state is SYN_RECV:
        connection.fin_later = True  # close() does not wait (tcp_shutdown, tcp_close_state)
    elif send:
        _end_sending(net, connection)


def close(net: Net, connection: Connection) -> None:
    """Let go of it; twice is no error.

    What was written is still sent.  If data was not read, the peer is reset: it must not believe
    that somebody has it (RFC 2525, 2.17).
    """
    if connection.orphan:
        return
    removal.orphan(net, connection)
    if connection.over:
        return
    unread, connection.incoming = bool(connection.incoming), bytearray()
    if unread:
        net.counts["TCPAbortOnClose"] += 1
        output.abort(net, connection)
        removal.end(net, connection)
        return
    if connection.options.get("SO_LINGER", -1) == 0 and connection.state is not TIME_WAIT:
        # It is to be gone at once, and its peer to know (tcp_disconnect).
        net.counts["TCPAbortOnData"] += 1
        if connection.state in NEED_RESET or (
            before(connection.snd_nxt, connection.end) and connection.state in _CLOSING
        ):
            output.abort(net, connection)
        removal.end(net, connection)
        return
    _end_sending(net, connection)
    if connection.state is FIN_WAIT2:
        time_wait.begin_orphan(net, connection)
    if net.orphans > net.sysctls.tcp_max_orphans and not connection.over:
        net.counts["TCPAbortOnMemory"] += 1  # tcp_check_oom
        output.abort(net, connection)
        removal.end(net, connection)


def _end_sending(net: Net, connection: Connection) -> None:
    if connection.fin_wanted or connection.state not in CAN_SEND:
        return
    connection.fin_wanted = True
    if connection.retransmit_at == inf or not connection.fin_sent:
        output.transmit(net, connection)
        output.rearm(net, connection)
