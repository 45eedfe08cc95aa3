"""Listening sockets and the socket options that matter to a reuseport group (socket(7), tcp(7))."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from segue.address import Address
from segue.errors import KernelError, UsageError

# include/uapi/linux/in.h; the socket module has no name for it before Python 3.12.
_IP_BIND_ADDRESS_NO_PORT = 24
_SO_ACCEPTCONN = 30
_SO_LOCK_FILTER = 44
_SO_MEMINFO = 55
_SO_COOKIE = 57
_RESET = struct.pack("ii", 1, 0)  # struct linger
_SK_MEMINFO_DROPS = 8
_SK_MEMINFO_BYTES = 9 * 4

_ADVICE = {
    errno.EADDRINUSE: "another process has it, without SO_REUSEPORT (segue adopt sets it) or under"
    " another user",
    errno.EACCES: "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "no interface of this host has that address",
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


def near(address: Address) -> str:
    """A host by which this machine reaches the address, in the address's family.

    Where no interface has an IPv6 address, as in many containers, a server can still listen at
    ``[::]``; it is reached by IPv4 there.
    """
    if address.near != "::1":
        return address.near
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as trial:
        try:
            trial.bind(("::1", 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL and address.wildcard:
                return "::ffff:127.0.0.1"
    return "::1"


def choose_port_late(sock: socket.socket | socket.SocketType) -> None:
    """Before bind() to port 0: the kernel chooses the port at connect(), by the whole 4-tuple.

    Then a port is free again for each source and target (IP_BIND_ADDRESS_NO_PORT, ip(7)).
    """
    sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)


def open_listener(
    address: Address,
    *,
    backlog: int,
    nodelay: bool = True,
    reuseport: bool = True,
    like: socket.socket | None = None,
    v6only: bool | None = None,
    prepare: Callable[[socket.socket], None] | None = None,
) -> socket.socket:
    """A listening socket with SO_REUSEPORT, close-on-exec, the caller's to close.

    ``v6only`` says whether one at ``[::]`` takes no IPv4 connections (IPV6_V6ONLY); None leaves
    that to net.ipv6.bindv6only.  The kernel caps the backlog at net.core.somaxconn.  With
    ``nodelay`` accepted connections inherit TCP_NODELAY.  One ``like`` another gets into its group:
    it has its user, interface and IPV6_V6ONLY.  ``prepare`` is called before it listens.  Raises
    KernelError (EADDRINUSE, EACCES, EADDRNOTAVAIL), UsageError for an unknown zone.
    """
    where = socket_address(address, address.host, address.port)
    made = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    call = "setsockopt"
    try:
        # Connections of a server without SO_REUSEPORT that linger in TIME_WAIT would else keep
        # the port from its successor for a minute.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuseport:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if v6only is not None and address.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        if like is not None:
            _liken(made, like, address)
        if nodelay:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if prepare is not None:
            prepare(made)
        call = "bind"
        made.bind(where)
        call = "listen"
        made.listen(backlog)
    except KernelError:
        made.close()
        raise
    except OSError as error:
        made.close()
        code = error.errno or 0
        doing = f"listening at {address}"
        raise KernelError(call, code, doing, _ADVICE.get(code, "")) from error
    return made


def _liken(made: socket.socket, like: socket.socket, address: Address) -> None:
    """What the kernel wants equal within a group (inet_reuseport_add_sock)."""
    # A socket's user is whose file it is (sockfs_setattr).
    owner = os.fstat(like.fileno()).st_uid
    if owner != os.fstat(made.fileno()).st_uid:
        try:
            os.fchown(made.fileno(), owner, -1)
        except OSError as error:
            doing = f"joining the listeners of uid {owner} at {address}"
            raise KernelError("fchown", error.errno or 0, doing, "it needs CAP_CHOWN") from error
    if like.family == socket.AF_INET6:
        only = like.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    device = like.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 64)
    if device.strip(b"\0"):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)


def reset_at_close(connection: socket.socket) -> None:
    """Closing it resets the connection, which is over at once and leaves no TIME_WAIT."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def lock_filter(sock: socket.socket) -> None:
    """Nobody attaches or detaches a filter of this socket any more, nor attaches a program for its
    reuseport group through it; for good, and through every descriptor.  Detaching the group's
    program is not stopped by it (measured on 6.18).  Raises KernelError.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)
    except OSError as error:
        doing = "locking the filter of a listener"
        raise KernelError("setsockopt", error.errno or 0, doing) from error


def filter_locked(sock: socket.socket) -> bool:
    """Somebody has locked it."""
    return sock.getsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER) == 1


def local_address(sock: socket.socket) -> Address:
    """Where a TCP socket is bound.  Raises UsageError when it is no TCP socket or not bound."""
    if sock.family not in {socket.AF_INET, socket.AF_INET6} or sock.type != socket.SOCK_STREAM:
        raise UsageError("this is not a TCP socket")
    host, port, *rest = sock.getsockname()
    if not port:
        raise UsageError("this socket is not bound to a port")
    scope = rest[1] if rest else 0
    return Address(host, port, socket.if_indextoname(scope) if scope else "")


def cookie(sock: socket.socket) -> int:
    """SO_COOKIE: the identity of a socket, equal in every process that has it open."""
    value: int = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8))[0]
    return value


def is_listening(sock: socket.socket) -> bool:
    """SO_ACCEPTCONN: the socket is in TCP_LISTEN."""
    return sock.getsockopt(socket.SOL_SOCKET, _SO_ACCEPTCONN) == 1


def stop_listening(listener: socket.socket) -> None:
    """From here on nobody listens with it, whichever processes have it open.

    What waits there migrates, or is reset.
    """
    with contextlib.suppress(OSError):  # ENOTCONN: it did not listen any more
        listener.shutdown(socket.SHUT_RDWR)


def bound(sock: socket.socket) -> bool:
    """It is bound to one interface: by SO_BINDTODEVICE, or as one at a link-local address is."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 64).strip(b"\0"))


def takes_no_ipv4(sock: socket.socket) -> bool | None:
    """IPV6_V6ONLY of an IPv6 socket; None for an IPv4 one."""
    if sock.family != socket.AF_INET6:
        return None
    return bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))


def defers(listener: socket.socket) -> bool:
    """TCP_DEFER_ACCEPT: it accepts only clients that have sent something, for some seconds."""
    return listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) > 0


def drops(sock: socket.socket) -> int | None:
    """Packets that were dropped at this socket, modulo 2**32; None before Linux 4.12.

    A listener counts what its filter or its full queue refused, and with TCP_DEFER_ACCEPT the ACK
    of every handshake (FACTS, deferred-drops).
    """
    try:
        memory = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _SK_MEMINFO_BYTES)
    except OSError:
        return None
    if len(memory) < _SK_MEMINFO_BYTES:
        return None
    value: int = struct.unpack_from("=I", memory, 4 * _SK_MEMINFO_DROPS)[0]
    return value


def peer_credentials(sock: socket.socket) -> tuple[int, int, int]:
    """SO_PEERCRED of a connected unix socket: pid, uid and gid of who connected."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, gid = struct.unpack("=iII", data)
    return pid, uid, gid


@dataclass(frozen=True, slots=True)
class Option:
    """A socket option by the name of its constant; ``text`` when its value is a string."""

    name: str
    level: int
    number: int
    text: bool = False


# What a connection can lose or gain by moving to a listener that has it otherwise: a child keeps
# its source's settings, a half-open request gets most of its target's.  The numbers are those of
# include/uapi/linux/tcp.h where Python's socket module has no name.
AUDITED = (
    Option("SO_REUSEPORT", socket.SOL_SOCKET, socket.SO_REUSEPORT),
    Option("IPV6_V6ONLY", socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),
    Option("SO_BINDTODEVICE", socket.SOL_SOCKET, socket.SO_BINDTODEVICE, text=True),
    Option("SO_MARK", socket.SOL_SOCKET, socket.SO_MARK),
    Option("SO_RCVBUF", socket.SOL_SOCKET, socket.SO_RCVBUF),
    Option("SO_SNDBUF", socket.SOL_SOCKET, socket.SO_SNDBUF),
    Option("SO_RCVLOWAT", socket.SOL_SOCKET, socket.SO_RCVLOWAT),
    Option("SO_PRIORITY", socket.SOL_SOCKET, socket.SO_PRIORITY),
    Option("SO_BUSY_POLL", socket.SOL_SOCKET, 46),
    Option("SO_MAX_PACING_RATE", socket.SOL_SOCKET, 47),
    Option("SO_INCOMING_CPU", socket.SOL_SOCKET, 49),
    Option("SO_KEEPALIVE", socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    Option("SO_OOBINLINE", socket.SOL_SOCKET, socket.SO_OOBINLINE),
    Option("IP_TOS", socket.IPPROTO_IP, socket.IP_TOS),
    Option("IP_TTL", socket.IPPROTO_IP, socket.IP_TTL),
    Option("IPV6_TCLASS", socket.IPPROTO_IPV6, socket.IPV6_TCLASS),
    Option("IPV6_UNICAST_HOPS", socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
    Option("TCP_DEFER_ACCEPT", socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT),
    Option("TCP_FASTOPEN", socket.IPPROTO_TCP, socket.TCP_FASTOPEN),
    Option("TCP_SAVE_SYN", socket.IPPROTO_TCP, 27),
    Option("TCP_QUICKACK", socket.IPPROTO_TCP, socket.TCP_QUICKACK),
    Option("TCP_NODELAY", socket.IPPROTO_TCP, socket.TCP_NODELAY),
    Option("TCP_KEEPIDLE", socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    Option("TCP_KEEPINTVL", socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    Option("TCP_KEEPCNT", socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    Option("TCP_USER_TIMEOUT", socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    Option("TCP_LINGER2", socket.IPPROTO_TCP, socket.TCP_LINGER2),
    Option("TCP_NOTSENT_LOWAT", socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT),
    Option("TCP_MAXSEG", socket.IPPROTO_TCP, socket.TCP_MAXSEG),
    Option("TCP_WINDOW_CLAMP", socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP),
    Option("TCP_CONGESTION", socket.IPPROTO_TCP, socket.TCP_CONGESTION, text=True),
)


def settings(sock: socket.socket) -> dict[str, int | str]:
    """The audited options of a socket; those that this kernel or family has not are left out."""
    found: dict[str, int | str] = {}
    for option in AUDITED:
        try:
            if option.text:
                data = sock.getsockopt(option.level, option.number, 64)
                found[option.name] = data.split(b"\0", 1)[0].decode()
            else:
                found[option.name] = sock.getsockopt(option.level, option.number)
        except OSError as error:
            if error.errno not in {errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EINVAL}:
                doing = f"reading {option.name} of a socket"
                raise KernelError("getsockopt", error.errno or 0, doing) from error
    return found
