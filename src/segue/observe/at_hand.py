"""One look at a connection by a duplicate of it that this process has."""

from __future__ import annotations

import socket

from segue.group import Connection
from segue.linux import sockopt, tcp_queue
from segue.linux.inet_diag import State, info_of


def look(connection: socket.socket) -> Connection | None:
    """What ``Observer.again`` would say of it, a tenth as dear; its inode is not asked for.

    None if it is not established any more.
    """
    try:
        info = info_of(connection)
        peer, local = connection.getpeername(), connection.getsockname()
        state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        unread, unsent = tcp_queue.unread(connection), tcp_queue.unacknowledged(connection)
    except OSError:  # reset
        return None
    if info is None or state != State.ESTABLISHED:
        return None
    return Connection(
        sockopt.cookie(connection),
        0,
        (peer[0], peer[1]),
        State.ESTABLISHED,
        unread,
        unsent,
        info.last_data_recv_ms,
        info.last_data_sent_ms,
        info.bytes_received,
        info.data_segs_out != 0,
        (local[0], local[1]),
        family=connection.family,
    )
