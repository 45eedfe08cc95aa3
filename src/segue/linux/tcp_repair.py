"""TCP_REPAIR: a connection taken out of the kernel without a word to its peer (tcp(7) is silent).

In repair mode close() and a disconnect send nothing, and the process that owns the connection gets
EPERM from recv().  Nothing undoes the mode but another setsockopt: it survives whoever set it.
Needs CAP_NET_ADMIN.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
from typing import Final

from segue.errors import KernelError

_TCP_REPAIR: Final = 19
_TCP_TIMESTAMP: Final = 24
_QUIETLY: Final = -1  # TCP_REPAIR_OFF_NO_WP: off, and no probe to the peer
_UNSPECIFIED = ctypes.create_string_buffer(16)  # a struct sockaddr with AF_UNSPEC

_libc = ctypes.CDLL(None, use_errno=True)


def enter(connection: socket.socket) -> None:
    """Into repair mode.  Raises KernelError: EPERM without CAP_NET_ADMIN or when neither
    established nor closed.
    """
    _set(connection, 1, "putting a connection into repair mode")


def leave(connection: socket.socket) -> None:
    """Out of it, as if it had never been in it; again is no error.  Raises KernelError."""
    _set(connection, _QUIETLY, "taking a connection out of repair mode")


def catch_up(connection: socket.socket) -> None:
    """What had come while the socket was in use is put away: this takes its lock, and no more.

    Raises KernelError: EPERM when it is neither established nor closed.
    """
    _set(connection, _QUIETLY, "taking the lock of a connection")


def repaired(connection: socket.socket) -> bool:
    """It is in repair mode."""
    return connection.getsockopt(socket.IPPROTO_TCP, _TCP_REPAIR) == 1


def clock(connection: socket.socket) -> int:
    """What its next segment has as its timestamp (TSval), modulo 2**32; repair is not needed."""
    return connection.getsockopt(socket.IPPROTO_TCP, _TCP_TIMESTAMP) & 0xFFFFFFFF


def disconnect(connection: socket.socket) -> None:
    """The kernel forgets the connection; in repair mode its peer hears nothing of that.

    Raises KernelError.
    """
    if _libc.connect(connection.fileno(), _UNSPECIFIED, len(_UNSPECIFIED)) != 0:
        raise KernelError("connect", ctypes.get_errno(), "disconnecting a connection")


def connected(connection: socket.socket) -> bool:
    """It is a connection still."""
    try:
        connection.getpeername()
    except OSError:
        return False
    return True


def finish(connection: socket.socket) -> None:
    """After a disconnect: whoever has the socket open reads an end of file, and no error."""
    connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # the disconnect left ECONNABORTED
    with contextlib.suppress(OSError):  # ENOTCONN: it is no connection any more, but it is shut
        connection.shutdown(socket.SHUT_RDWR)


def _set(connection: socket.socket, value: int, doing: str) -> None:
    try:
        connection.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, value)
    except OSError as error:
        raise KernelError(
            "setsockopt(TCP_REPAIR)", error.errno or 0, doing, "it needs CAP_NET_ADMIN"
        ) from error
