"""TCP sockets as the kernel lists them: sock_diag(7), net/ipv4/inet_diag.c.

Narrow on purpose: TCP, the attributes that Segue reads, and port filters that run in the kernel.
A listener's ``rqueue`` is its accept queue and ``wqueue`` its backlog; a half-open request shows
as SYN_RECV with inode 0; a child nobody has accepted is ESTABLISHED with inode 0.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from segue.errors import KernelError, WireError
from segue.linux.netlink import (
    NLM_F_ACK,
    Netlink,
    attributes,
    encode_attribute,
    not_found,
)

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_SOCK_DESTROY = 21
_REQUEST = struct.Struct("=BBBxI")  # mirrors the head of struct inet_diag_req_v2
_SOCKID = struct.Struct("!HH16s16s")  # ports and addresses are in network order...
_SOCKID_TAIL = struct.Struct("=III")  # ...interface and the cookie's halves are the host's
_HEAD = struct.Struct("=BBBB")
_TAIL = struct.Struct("=IIIII")  # expires, rqueue, wqueue, uid, inode
_MESSAGE_SIZE = _HEAD.size + _SOCKID.size + _SOCKID_TAIL.size + _TAIL.size
_ANY_COOKIE = 0xFFFFFFFF

_REQ_BYTECODE = 1  # INET_DIAG_REQ_BYTECODE
_BC_OP = struct.Struct("=BBH")  # mirrors struct inet_diag_bc_op
_BC_JMP = 1
_BC_S_GE, _BC_S_LE, _BC_D_GE, _BC_D_LE = 2, 3, 4, 5

_EXT_INFO = 2
_EXT_SKMEMINFO = 7
_EXT_SKV6ONLY = 11
_SKMEMINFO_DROPS = 8


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


# Every state in which a process may have, or a queue may hold, a full socket.
CONNECTED = (State.ESTABLISHED, State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSE_WAIT, State.CLOSING)


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """The part of struct tcp_info that Segue reads; times in milliseconds."""

    last_data_sent_ms: int
    last_data_recv_ms: int
    rtt_us: int
    bytes_acked: int
    bytes_received: int
    data_segs_in: int
    data_segs_out: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One socket of a dump."""

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


def encode_request(
    family: int,
    states: int,
    extensions: int = 0,
    *,
    local: tuple[str, int] = ("", 0),
    peer: tuple[str, int] = ("", 0),
    cookie: int | None = None,
) -> bytes:
    """Struct inet_diag_req_v2 for TCP; without addresses it matches every socket."""

    def packed(host: str) -> bytes:
        return socket.inet_pton(family, host) if host else b""

    low, high = (
        (_ANY_COOKIE, _ANY_COOKIE) if cookie is None else (cookie & 0xFFFFFFFF, cookie >> 32)
    )
    return (
        _REQUEST.pack(family, socket.IPPROTO_TCP, extensions, states)
        + _SOCKID.pack(local[1], peer[1], packed(local[0]), packed(peer[0]))
        + _SOCKID_TAIL.pack(0, low, high)
    )


def encode_port_filter(sport: int | None, dport: int | None) -> bytes:
    """Bytecode that keeps sockets with these ports (inet_diag_bc_run); b"" for no filter.

    Each comparison is two operations, since the port stands in the second one's ``no`` field; a
    false one jumps past the end, which the kernel takes for "not this one".
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


def decode_entry(payload: memoryview) -> Entry:
    """Struct inet_diag_msg and its attributes.  Raises WireError when it is too short."""
    if len(payload) < _MESSAGE_SIZE:
        raise WireError("inet_diag_msg", f"{len(payload)} bytes", bytes(payload))
    family, state, _, retrans = _HEAD.unpack_from(payload, 0)
    sport, dport, source, target = _SOCKID.unpack_from(payload, 4)
    interface, low, high = _SOCKID_TAIL.unpack_from(payload, 40)
    expires, rqueue, wqueue, uid, inode = _TAIL.unpack_from(payload, 52)
    drops: int | None = None
    info: TcpInfo | None = None
    v6only: bool | None = None
    for kind, value in attributes(payload[_MESSAGE_SIZE:]):
        if kind == _EXT_SKMEMINFO and len(value) >= 4 * (_SKMEMINFO_DROPS + 1):
            drops = struct.unpack_from("=I", value, 4 * _SKMEMINFO_DROPS)[0]
        elif kind == _EXT_INFO:
            info = decode_info(value)
        elif kind == _EXT_SKV6ONLY:
            v6only = bool(value[0])
    size = 4 if family == socket.AF_INET else 16
    return Entry(
        family, state, low | high << 32, inode, uid,
        socket.inet_ntop(family, source[:size]), sport,
        socket.inet_ntop(family, target[:size]), dport,
        interface, rqueue, wqueue, retrans, expires, drops, info, v6only,
    )  # fmt: skip


def decode_info(value: memoryview) -> TcpInfo | None:
    """Struct tcp_info (include/uapi/linux/tcp.h); None from a kernel that knows less of it."""
    if len(value) < 160:
        return None
    sent, _, received = struct.unpack_from("=III", value, 44)
    (rtt,) = struct.unpack_from("=I", value, 68)
    acked, got = struct.unpack_from("=QQ", value, 120)
    segs_in, segs_out = struct.unpack_from("=II", value, 152)
    return TcpInfo(sent, received, rtt, acked, got, segs_in, segs_out)


class SockDiag:
    """Asks about the TCP sockets of the network namespace that it was made in."""

    def __init__(self) -> None:
        self._netlink = Netlink(_NETLINK_SOCK_DIAG, "listing TCP sockets")

    def dump(
        self,
        states: Iterable[State],
        *,
        family: int,
        sport: int | None = None,
        dport: int | None = None,
        info: bool = False,
        memory: bool = False,
    ) -> list[Entry]:
        """Sockets of a family in these states; ``info`` and ``memory`` fill those fields.

        Raises KernelError.
        """
        mask = sum(1 << state for state in states)
        extensions = (info << (_EXT_INFO - 1)) | (memory << (_EXT_SKMEMINFO - 1))
        payload = encode_request(family, mask, extensions)
        code = encode_port_filter(sport, dport)
        if code:
            payload += encode_attribute(_REQ_BYTECODE, code)
        return [decode_entry(one) for one in self._netlink.dump(_SOCK_DIAG_BY_FAMILY, payload)]

    def listeners(self, port: int | None, family: int) -> list[Entry]:
        """Sockets in TCP_LISTEN, with their drops."""
        return self.dump([State.LISTEN], family=family, sport=port, memory=True)

    def half_open(self, port: int | None, family: int) -> list[Entry]:
        """Requests whose final ACK has not come; they name no listener."""
        return self.dump([State.SYN_RECV], family=family, sport=port)

    def connections(self, port: int | None, family: int) -> list[Entry]:
        """Full sockets, queued (inode 0) and accepted, with their tcp_info."""
        return self.dump(CONNECTED, family=family, sport=port, info=True)

    def one(self, family: int, local: tuple[str, int], peer: tuple[str, int]) -> Entry | None:
        """The very socket between these two ends, or None: a look-up, not a dump."""
        payload = encode_request(family, 0xFFFFFFFF, local=local, peer=peer)
        try:
            answer = self._netlink.request(_SOCK_DIAG_BY_FAMILY, payload)
        except KernelError as error:
            if not_found(error):
                return None
            raise
        return None if answer is None else decode_entry(answer)

    def destroy(self, entry: Entry) -> None:
        """Abort a socket from outside (SOCK_DESTROY).  Raises KernelError: EPERM without
        CAP_NET_ADMIN, ENOENT when it is gone, EOPNOTSUPP without CONFIG_INET_DIAG_DESTROY.
        """
        payload = encode_request(
            entry.family,
            0xFFFFFFFF,
            local=(entry.host, entry.port),
            peer=(entry.peer_host, entry.peer_port),
            cookie=entry.cookie,
        )
        self._netlink.request(_SOCK_DESTROY, payload, NLM_F_ACK)

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
