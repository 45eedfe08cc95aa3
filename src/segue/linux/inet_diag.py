"""What sock_diag(7) says about TCP sockets, as bytes and as values (linux/inet_diag.h).

Pure: ``segue.linux.sock_diag`` asks.  Narrow on purpose: TCP, and the attributes Segue reads.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from segue.errors import WireError
from segue.linux.netlink import attributes

_REQUEST = struct.Struct("=BBBxI")  # mirrors the head of struct inet_diag_req_v2
_SOCKID = struct.Struct("!HH16s16s")  # ports and addresses are in network order...
_SOCKID_TAIL = struct.Struct("=III")  # ...interface and the cookie's halves are the host's
# Mirrors struct inet_diag_msg; the ports are read as bytes, which have no order yet.
_MESSAGE = struct.Struct("=BBBB2s2s16s16sIIIIIIII")
_PORT = struct.Struct("!H")
_PORTS = struct.Struct("!4xHH")  # both of them, in the same message
_ANY_COOKIE = 0xFFFFFFFF

_BC_OP = struct.Struct("=BBH")  # mirrors struct inet_diag_bc_op
_BC_S_GE, _BC_S_LE, _BC_D_GE, _BC_D_LE = 2, 3, 4, 5

REQ_BYTECODE = 1  # INET_DIAG_REQ_BYTECODE
EXT_INFO = 2  # INET_DIAG_INFO
EXT_SKMEMINFO = 7  # INET_DIAG_SKMEMINFO
_EXT_SHUTDOWN = 8  # INET_DIAG_SHUTDOWN
_EXT_SKV6ONLY = 11  # INET_DIAG_SKV6ONLY
_EXT_MD5SIG = 18  # INET_DIAG_MD5SIG: comes with INFO, to those with CAP_NET_ADMIN
_DROPS = struct.Struct("=32xI")  # SK_MEMINFO_DROPS is the ninth of the numbers
_ATTRIBUTE = struct.Struct("=HH")  # mirrors struct nlattr
# Mirrors struct tcp_info up to tcpi_data_segs_out (Linux 4.6).
_INFO = struct.Struct("=24xII12xIxxxxIxxxx8xI48xQQII8xII")


class State(IntEnum):
    """TCP states under the kernel's numbers (include/net/tcp_states.h)."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """The part of struct tcp_info that Segue reads.

    Before the first data segment the two times run from when the socket was made.  A listener has
    only ``unacked`` and ``sacked``, for its accept queue and its backlog (tcp_get_info).
    """

    unacked: int
    sacked: int
    last_data_sent_ms: int
    last_data_recv_ms: int
    rtt_us: int
    bytes_acked: int
    bytes_received: int
    segs_out: int
    segs_in: int
    data_segs_in: int
    data_segs_out: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One socket as the kernel lists it.

    A listener's ``rqueue`` is its accept queue and ``wqueue`` its backlog; of a connection they
    are bytes not yet read and not yet acknowledged.  ``inode`` is 0 while no process has the
    socket: before accept() and after close().  ``drops`` and ``info`` are None unless asked for,
    ``v6only`` except for an IPv6 listener.  ``md5`` has the TCP-MD5 keys, an array of struct
    tcp_diag_md5sig, where ``info`` is asked for: b"" when there are none, and for whoever has no
    CAP_NET_ADMIN.
    """

    family: int
    state: int
    cookie: int
    inode: int
    uid: int
    host: str
    port: int
    peer_host: str
    peer_port: int
    interface: int
    rqueue: int
    wqueue: int
    retrans: int
    expires_ms: int
    drops: int | None = None
    info: TcpInfo | None = None
    v6only: bool | None = None
    md5: bytes = field(default=b"", repr=False)


class Connected(NamedTuple):
    """The part of a connection's Entry and TcpInfo that tells whether it is in use.

    A tuple, since there may be many thousand.  ``data_segs_out`` is None from a kernel whose
    tcp_info has less than we read, and then the numbers before it are 0.
    """

    family: int
    state: int
    cookie: int
    inode: int
    host: str
    port: int
    peer_host: str
    peer_port: int
    interface: int
    rqueue: int
    wqueue: int
    last_data_sent_ms: int = 0
    last_data_recv_ms: int = 0
    bytes_received: int = 0
    data_segs_out: int | None = None


def encode_request(
    family: int,
    states: int,
    extensions: int = 0,
    *,
    local: tuple[str, int] = ("", 0),
    peer: tuple[str, int] = ("", 0),
    interface: int = 0,
) -> bytes:
    """Struct inet_diag_req_v2 for TCP; ``states`` is a mask of ``1 << State``.

    Addresses and interface name one socket; a dump does not look at them.
    """

    def packed(host: str) -> bytes:
        return socket.inet_pton(family, host) if host else b""

    return (
        _REQUEST.pack(family, socket.IPPROTO_TCP, extensions, states)
        + _SOCKID.pack(local[1], peer[1], packed(local[0]), packed(peer[0]))
        + _SOCKID_TAIL.pack(interface, _ANY_COOKIE, _ANY_COOKIE)
    )


def encode_port_filter(sport: int | None, dport: int | None) -> bytes:
    """Bytecode that keeps sockets with these ports (inet_diag_bc_run); b"" for no filter.

    Each comparison is two operations, since the port stands in the second one's ``no`` field; a
    false one jumps past the end, which the kernel takes for "not this one".  Not S_EQ and D_EQ,
    which a 4.14 kernel still refuses.
    """
    tests = [
        (op, port)
        for port, ops in ((sport, (_BC_S_GE, _BC_S_LE)), (dport, (_BC_D_GE, _BC_D_LE)))
        if port is not None
        for op in ops
    ]
    total = len(tests) * 2 * _BC_OP.size
    code = b""
    for op, port in tests:
        left = total - len(code)
        code += _BC_OP.pack(op, 2 * _BC_OP.size, left + _BC_OP.size) + _BC_OP.pack(0, 0, port)
    return code


@lru_cache(maxsize=4096)
def _host(family: int, packed: bytes) -> str:
    # A server's peers come again and again, and its own address with every entry.
    return socket.inet_ntop(family, packed if family == socket.AF_INET6 else packed[:4])


def decode_entry(payload: memoryview) -> Entry:
    """Struct inet_diag_msg and its attributes.  Raises WireError when it is too short.

    A request is given its own state, NEW_SYN_RECV: inet_req_diag_fill says SYN_RECV, which is
    also a Fast Open child's, but tells nothing of shutdown, as it does of every full socket.
    """
    if len(payload) < _MESSAGE.size:
        raise WireError("inet_diag_msg", f"{len(payload)} bytes", bytes(payload))
    (
        family, state, _, retrans, sport, dport, source, target,
        interface, low, high, expires, rqueue, wqueue, uid, inode,
    ) = _MESSAGE.unpack_from(payload)  # fmt: skip
    drops: int | None = None
    info: TcpInfo | None = None
    v6only: bool | None = None
    md5 = b""
    full = False
    for kind, value in attributes(payload[_MESSAGE.size :]):
        if kind == EXT_INFO:
            info = decode_info(value)
        elif kind == _EXT_SHUTDOWN:
            full = True
        elif kind == EXT_SKMEMINFO and len(value) >= _DROPS.size:
            (drops,) = _DROPS.unpack_from(value)
        elif kind == _EXT_SKV6ONLY and len(value):
            v6only = bool(value[0])
        elif kind == _EXT_MD5SIG:
            md5 = bytes(value)
    if state == State.SYN_RECV and not full:
        state = State.NEW_SYN_RECV.value
    return Entry(
        family, state, low | high << 32, inode, uid,
        _host(family, source), _PORT.unpack(sport)[0],
        _host(family, target), _PORT.unpack(dport)[0],
        interface, rqueue, wqueue, retrans, expires, drops, info, v6only, md5,
    )  # fmt: skip


# Where tcp_info is in a message of this length: the kernel puts the attributes of all sockets in
# one order (inet_sk_diag_fill).
_places: dict[int, int] = {}
_SYN_RECV = State.SYN_RECV.value


def decode_connected(payloads: Iterable[memoryview]) -> list[Connected]:
    """Every full socket of a dump that asked for INFO.  Raises WireError for one too short.

    There may be many thousand: see ``_places``.
    """
    found = []
    for payload in payloads:
        if len(payload) < _MESSAGE.size:
            raise WireError("inet_diag_msg", f"{len(payload)} bytes", bytes(payload))
        (
            family, state, _, _, _, _, source, target,
            interface, low, high, _, rqueue, wqueue, _, inode,
        ) = _MESSAGE.unpack_from(payload)  # fmt: skip
        if state == _SYN_RECV and not _shows_shutdown(payload):
            continue  # a request, as in decode_entry
        port, peer_port = _PORTS.unpack_from(payload)
        place = _places.get(len(payload), 0)
        if not place or _ATTRIBUTE.unpack_from(payload, place)[1] != EXT_INFO:
            place = _places[len(payload)] = _place_of_info(payload)
        info: tuple[int, int, int, int] | tuple[()] = ()
        if place:
            _, _, sent, received, _, _, came, _, _, _, out = _INFO.unpack_from(
                payload, place + _ATTRIBUTE.size
            )
            info = sent, received, came, out
        found.append(
            Connected(
                family, state, low | high << 32, inode,
                _host(family, source), port, _host(family, target), peer_port,
                interface, rqueue, wqueue, *info,
            )
        )  # fmt: skip
    return found


def _shows_shutdown(payload: memoryview) -> bool:
    return any(kind == _EXT_SHUTDOWN for kind, _ in attributes(payload[_MESSAGE.size :]))


def _place_of_info(payload: memoryview) -> int:
    """Where the attribute INFO begins, if it has all that we read; else 0."""
    at = _MESSAGE.size
    for kind, value in attributes(payload[_MESSAGE.size :]):
        if kind == EXT_INFO:
            return at if len(value) >= _INFO.size else 0
        at += (_ATTRIBUTE.size + len(value) + 3) & ~3
    return 0


def decode_info(value: bytes | memoryview) -> TcpInfo | None:
    """Struct tcp_info (linux/tcp.h); None from a kernel that knows less of it than we read."""
    if len(value) < _INFO.size:
        return None
    return TcpInfo(*_INFO.unpack_from(value))


def info_of(sock: socket.socket) -> TcpInfo | None:
    """What getsockopt(TCP_INFO) says of a socket that this process has open.

    A microsecond, where a look by sock_diag takes fifty; for a listener it is the only way to
    see queue and backlog at the very moment.  Raises OSError.
    """
    return decode_info(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size))
