"""Listening sockets and the socket options that matter to a reuseport group (socket(7), tcp(7))."""

from __future__ import annotations

import socket
import struct

from segue.address import Address
from segue.errors import KernelError, UsageError

_SO_ACCEPTCONN = 30
_SO_COOKIE = 57

_ADVICE = {
    "EADDRINUSE": "somebody else has it, without SO_REUSEPORT or under another user",
    "EACCES": "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE",
    "EADDRNOTAVAIL": "no interface of this host has that address",
}


def socket_address(address: Address, host: str, port: int) -> tuple[str | int, ...]:
    """What bind() and connect() take for this host and port in the address's family and zone.

    Raises UsageError when the zone is no interface of this host.
    """
    if address.family != socket.AF_INET6:
        return host, port
    if not address.zone:
        return host, port, 0, 0
    try:
        scope = socket.if_nametoindex(address.zone)
    except OSError:
        known = ", ".join(name for _, name in socket.if_nameindex())
        raise UsageError(
            f"{address} cannot be listened at: there is no interface {address.zone!r}"
            f" (there are {known})"
        ) from None
    return host, port, 0, scope


def open_listener(
    address: Address, *, backlog: int, nodelay: bool = True, reuseport: bool = True
) -> socket.socket:
    """A listening socket with SO_REUSEPORT, close-on-exec, the caller's to close.

    An IPv6 one takes no IPv4 connections (IPV6_V6ONLY), so that ``:80`` and ``[::]:80`` can be
    served side by side whatever net.ipv6.bindv6only says.  With ``nodelay`` accepted connections
    inherit TCP_NODELAY.  Raises KernelError (EADDRINUSE, EACCES, EADDRNOTAVAIL), UsageError for
    an unknown zone.
    """
    where = socket_address(address, address.host, address.port)
    made = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    call = "setsockopt"
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuseport:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if address.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if nodelay:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        call = "bind"
        made.bind(where)
        call = "listen"
        made.listen(backlog)
    except OSError as error:
        made.close()
        refused = KernelError(call, error.errno or 0, f"listening at {address}")
        refused.advice = _ADVICE.get(refused.name, "")
        raise refused from error
    return made


def cookie(sock: socket.socket) -> int:
    """SO_COOKIE: the identity of a socket, equal in every process that has it open."""
    value: int = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8))[0]
    return value


def is_listening(sock: socket.socket) -> bool:
    """SO_ACCEPTCONN: the socket is in TCP_LISTEN."""
    return sock.getsockopt(socket.SOL_SOCKET, _SO_ACCEPTCONN) == 1


def peer_credentials(sock: socket.socket) -> tuple[int, int, int]:
    """SO_PEERCRED of a connected unix socket: pid, uid and gid of who connected."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, gid = struct.unpack("=iII", data)
    return pid, uid, gid
