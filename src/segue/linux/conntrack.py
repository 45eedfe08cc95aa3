"""What connection tracking says of a connection: where its client thinks that it is connected."""

from __future__ import annotations

import errno
import socket
import struct

from segue.errors import KernelError

_SO_ORIGINAL_DST = 80  # include/uapi/linux/netfilter_ipv4.h; in IPv6 the same number
_NOT_TRACKED = {errno.ENOENT, errno.ENOPROTOOPT, errno.EOPNOTSUPP}


def original_target(connection: socket.socket) -> tuple[str, int] | None:
    """The address and port that the client connected to, which NAT may have changed on the way.

    None when nothing tracks the connection.  A change of the client's own address is not seen.
    Raises KernelError.
    """
    mapped = connection.getsockname()[0].startswith("::ffff:")
    six = connection.family == socket.AF_INET6 and not mapped
    level, size = (socket.IPPROTO_IPV6, 28) if six else (socket.IPPROTO_IP, 16)
    try:
        found = connection.getsockopt(level, _SO_ORIGINAL_DST, size)
    except OSError as error:
        if error.errno in _NOT_TRACKED:
            return None
        doing = "asking where a connection was made to"
        raise KernelError("getsockopt(SO_ORIGINAL_DST)", error.errno or 0, doing) from error
    (port,) = struct.unpack_from("!H", found, 2)
    if six:
        return socket.inet_ntop(socket.AF_INET6, found[8:24]), port
    host = socket.inet_ntop(socket.AF_INET, found[4:8])
    return (f"::ffff:{host}" if mapped else host), port
