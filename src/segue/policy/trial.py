"""A compiled policy run in our own interpreter, on a connection that is made up.

What the kernel would hand the program is built from a ``Conn``: struct sk_reuseport_md, the
segment and its IP header, and struct bpf_sock of what migrates (include/uapi/linux/bpf.h).  A
child and a request whose timer ran out come without a segment (FACTS, question), as ``tcp_flags`` 0
says.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass, field

from segue.bpf.interp import Context, Machine, Outcome
from segue.bpf.memory import PACKET, MapKind, MapMemory, Pointer, Region
from segue.policy.builtin import UNSELECTED
from segue.policy.compile import Compiled
from segue.policy.connection import (
    AF_INET6,
    ETH_P_IP,
    ETH_P_IPV6,
    TCP_ESTABLISHED,
    TCP_NEW_SYN_RECV,
    TCP_SYN_RECV,
)
from segue.policy.language import Migrating, Verdict
from segue.policy.maps import Kind, Map, Ring
from segue.policy.plain import Conn, Decision

_KINDS = {
    Kind.HASH: MapKind.HASH,
    Kind.ARRAY: MapKind.ARRAY,
    Kind.PERCPU_ARRAY: MapKind.ARRAY,  # one processor is simulated
    Kind.SOCKETS: MapKind.SOCKETS,
    Kind.RING: MapKind.RING,
}
_STATES = {
    Migrating.REQUEST: TCP_NEW_SYN_RECV,
    Migrating.CHILD: TCP_ESTABLISHED,
    Migrating.FASTOPEN: TCP_SYN_RECV,
}
_AF_INET = 2
_TCP_BYTES = 20
_SOCK_BYTES, _METADATA_BYTES = 80, 56


@dataclass(slots=True)
class Trial:
    """A policy's program with maps of its own, which begin as the policy's maps are now."""

    compiled: Compiled
    maps: dict[str, MapMemory] = field(init=False)
    _machine: Machine = field(init=False)

    def __post_init__(self) -> None:
        self.maps = {
            one.name: MapMemory(
                one.name,
                _KINDS[one.kind],
                one.key_bytes,
                one.value_bytes,
                one.size,
                _contents(one),
            )
            for one in self.compiled.maps
        }
        descriptors = {name: number for number, name in enumerate(self.maps, 1)}
        self._machine = Machine(
            self.compiled.instructions(descriptors),
            {number: self.maps[name] for name, number in descriptors.items()},
        )

    def run(self, conn: Conn, listening: Collection[int]) -> Outcome:
        """Once, with a listener in each of these slots.  Raises ProgramFault."""
        machine = self._machine
        machine.listening, machine.cpu = listening, int(conn.cpu)
        machine.clock, machine.chance = conn.clock, conn.chance
        return machine.run(context(conn))

    def decide(self, conn: Conn, listening: Collection[int]) -> Decision:
        """The same, as what it comes to."""
        return self.decision(self.run(conn, listening))

    @staticmethod
    def decision(outcome: Outcome) -> Decision:
        """What a run comes to."""
        verdict = Verdict.PASS if outcome.answer == Verdict.PASS else Verdict.DROP
        chosen = outcome.selected if verdict is Verdict.PASS else None
        return Decision(verdict, UNSELECTED if chosen is None else chosen)


def _contents(of: Map | Ring) -> dict[int, bytearray]:
    if isinstance(of, Ring):
        return {}
    return {key: bytearray(data) for key, data in of.contents.items()}


def context(conn: Conn) -> Context:
    """What the kernel would call the program with."""
    arrived = conn.migrating is Migrating.NO or conn.tcp_flags != 0
    header = _ip_header(conn) if arrived else b""
    segment = _segment(conn) if arrived else b""
    packet = Region(PACKET, bytearray(segment))
    listener = Region("listener", bytearray(_SOCK_BYTES))
    migrating = None if conn.migrating is Migrating.NO else _socket(conn)
    protocol = (ETH_P_IPV6 if conn.ipv6 else ETH_P_IP) if arrived else 0
    metadata = bytearray(_METADATA_BYTES)
    _put(metadata, 16, len(segment))
    metadata[20:22] = _network(protocol, 2)
    _put(metadata, 24, conn.protocol)
    _put(metadata, 28, conn.bind_inany)
    _put(metadata, 32, conn.hash)
    pointers = {0: Pointer(packet, 0), 8: Pointer(packet, len(segment)), 40: Pointer(listener, 0)}
    if migrating is not None:
        pointers[48] = Pointer(migrating, 0)
    return Context(
        Region("context", metadata, pointers=pointers),
        header + segment,
        listener,
        int(conn.cookie),
        migrating,
        int(conn.child_cookie),
    )


def _ip_header(conn: Conn) -> bytes:
    if conn.ipv6:
        first = _network(6 << 28 | int(conn.flow_label), 4)
        return first + bytes(4) + _words(*conn.remote_ip6, *conn.local_ip6)
    return b"\x45" + bytes(11) + _words(conn.remote_ip4, conn.local_ip4)


def _segment(conn: Conn) -> bytes:
    length = _TCP_BYTES + int(conn.options_length)
    ports = _network(conn.remote_port, 2) + _network(conn.local_port, 2)
    return (ports + bytes(8) + bytes([length // 4 << 4, conn.tcp_flags])).ljust(length, b"\0")


def _socket(conn: Conn) -> Region:
    data = bytearray(_SOCK_BYTES)
    _put(data, 4, AF_INET6 if conn.ipv6 else _AF_INET)
    data[24:44] = _words(conn.local_ip4, *conn.local_ip6)
    _put(data, 44, conn.local_port)
    data[48:50] = _network(conn.remote_port, 2)
    data[52:72] = _words(conn.remote_ip4, *conn.remote_ip6)
    _put(data, 72, _STATES[conn.migrating])
    return Region("migrating socket", data)


def _put(data: bytearray, at: int, value: int) -> None:
    data[at : at + 4] = int(value).to_bytes(4, sys.byteorder)


def _network(value: int, octets: int) -> bytes:
    return int(value).to_bytes(octets, "big")


def _words(*words: int) -> bytes:
    return b"".join(_network(word, 4) for word in words)
