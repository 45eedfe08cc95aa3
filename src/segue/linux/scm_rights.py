"""Descriptors passed over a unix socket (SCM_RIGHTS, unix(7))."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence

from segue.errors import KernelError, UsageError, WireError

MOST = 253  # SCM_MAX_FD: what the kernel takes in one message
_DOING = "passing descriptors"


def send(connection: socket.socket, payload: bytes, descriptors: Sequence[int]) -> None:
    """One message with these descriptors, which stay the caller's own too.

    Raises UsageError for more than MOST, or for an empty payload, with which a stream carries no
    descriptors; KernelError when the kernel refuses or did not take the whole payload.
    """
    if len(descriptors) > MOST:
        raise UsageError(f"a message can carry at most {MOST} descriptors (got {len(descriptors)})")
    if not payload:
        raise UsageError("descriptors need at least one byte to go with")
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors).tobytes())]
    try:
        sent = connection.sendmsg([payload], rights if descriptors else [])
        if sent < len(payload):  # a stream; the descriptors went with its first byte
            connection.sendall(payload[sent:])
    except OSError as error:
        raise KernelError("sendmsg", error.errno or 0, _DOING) from error


def receive(connection: socket.socket, size: int, most: int = MOST) -> tuple[bytes, list[int]]:
    """At most ``size`` bytes, and the descriptors that came with them, which close on exec and
    are the caller's to close; (b"", []) at the end of a stream.

    Raises WireError, with none left open, when more than ``most`` descriptors or a longer message
    came; KernelError when the kernel refuses.
    """
    room = socket.CMSG_SPACE(most * 4)
    try:
        payload, ancillary, flags, _ = connection.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    except OSError as error:
        raise KernelError("recvmsg", error.errno or 0, _DOING) from error
    found: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % 4])
            found += numbers
    why = ""
    if flags & socket.MSG_TRUNC:
        why = f"longer than {size} bytes"
    elif flags & socket.MSG_CTRUNC or len(found) > most:
        # CMSG_SPACE rounds up, so there may have been room for one more than was asked for.
        why = f"more than {most} descriptors"
    if why:
        for one in found:
            os.close(one)
        raise WireError("message with descriptors", why, payload)
    return payload, found
