"""A socket's filter as an eBPF program (socket(7), SO_ATTACH_BPF).

A socket has one filter, classic or extended; the next one takes its place.  Classic ones are
attached by ``cbpf``.
"""

from __future__ import annotations

import ctypes
import errno
import socket

from segue.errors import KernelError
from segue.linux.bpf import Program

_SO_GET_FILTER = 26
_SO_ATTACH_BPF = 50
_SO_DETACH_FILTER = 27

_libc = ctypes.CDLL(None, use_errno=True)


def present(sock: socket.socket) -> bool:
    """It has a filter.  Raises KernelError."""
    return _length(sock) != 0


def classic(sock: socket.socket) -> bool:
    """It has one in classic BPF.  Raises KernelError."""
    return _length(sock) > 0


def _length(sock: socket.socket) -> int:
    """Instructions of a classic one, 0 for none, -1 for one that cannot be read: extended."""
    size = ctypes.c_uint32(0)  # no room: the kernel only says how long it is
    result = _libc.getsockopt(
        sock.fileno(), socket.SOL_SOCKET, _SO_GET_FILTER, None, ctypes.byref(size)
    )
    if result != 0:
        code = ctypes.get_errno()
        if code == errno.EACCES:
            return -1
        raise KernelError("getsockopt(SO_GET_FILTER)", code, "looking for a socket's filter")
    return size.value


def attach(sock: socket.socket, program: Program) -> None:
    """From here on the program decides what this socket gets.

    Raises KernelError: EPERM when the filter is locked (SO_LOCK_FILTER).
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, program.fileno())
    except OSError as error:
        doing = "attaching a filter to a connection"
        raise KernelError("setsockopt(SO_ATTACH_BPF)", error.errno or 0, doing) from error


def detach(sock: socket.socket) -> None:
    """It gets everything again.  Raises KernelError: ENOENT when it has no filter."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    except OSError as error:
        doing = "detaching a filter from a connection"
        raise KernelError("setsockopt(SO_DETACH_FILTER)", error.errno or 0, doing) from error
