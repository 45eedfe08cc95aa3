"""The segments of made-up clients, for a network they are all behind."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from segue.policy.plain import Conn
from segue.wire import checksum

SYN, ACK = 0x02, 0x10
_TCP = 6


def packet(conn: Conn, flags: int, sequence: int, acknowledged: int = 0) -> bytes:
    """What this client sends: options are NOPs, the flow label is its own."""
    length = 20 + conn.options_length
    header = struct.pack(
        "!2H2I2BH4x",
        conn.remote_port,
        conn.local_port,
        sequence & 0xFFFFFFFF,
        acknowledged & 0xFFFFFFFF,
        length // 4 << 4,
        flags,
        65535,
    )
    segment = bytearray(header + b"\x01" * conn.options_length)
    if conn.ipv6:
        ends = _words(conn.remote_ip6) + _words(conn.local_ip6)
        ip = struct.pack("!IH2B", 6 << 28 | conn.flow_label, length, _TCP, 64) + ends
    else:
        ends = struct.pack("!2I", conn.remote_ip4, conn.local_ip4)
        ip = struct.pack("!BxH4x2B2x", 0x45, 20 + length, 64, _TCP) + ends
        ip = ip[:10] + checksum.internet(ip).to_bytes(2, "big") + ip[12:]
    segment[16:18] = checksum.tcp(ends, bytes(segment)).to_bytes(2, "big")
    return ip + bytes(segment)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server sent to one of the ports."""

    port: int
    flags: int
    sequence: int


def answer(data: bytes) -> Answer | None:
    """None for what is no TCP."""
    start = 4 * (data[0] & 0xF) if data[0] >> 4 == 4 else 40
    if data[9 if data[0] >> 4 == 4 else 6] != _TCP:
        return None
    port, sequence, flags = struct.unpack_from("!2xHI5xB", data, start)
    return Answer(port, flags, sequence)


def _words(address: tuple[int, ...]) -> bytes:
    return struct.pack("!4I", *address)
