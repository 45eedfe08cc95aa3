"""An ICMP message that says what became of a TCP segment (RFC 792, RFC 4443), and one read."""

from __future__ import annotations

from dataclasses import dataclass

from segue.errors import WireError
from segue.wire import checksum, ipv4, ipv6

ICMP, ICMP6 = 1, 58
UNREACHABLE = {4: 3, 6: 1}
TOO_BIG = 2  # of ICMPv6; in ICMPv4 it is a code of UNREACHABLE
FRAGMENTATION_NEEDED = 4
_HEADER = 8
_QUOTED = 8  # bytes of the segment: its ports and its number


@dataclass(frozen=True, slots=True)
class Complaint:
    """``quoted`` is source and target of the segment, ``ports`` its own, in its direction."""

    version: int
    kind: int
    code: int
    mtu: int
    quoted: bytes
    ports: bytes
    seq: int


def about(
    addresses: bytes, ports: bytes, kind: int, code: int, rest: int, seq: int, size: int
) -> bytes:
    """A message to the host that sent a segment of ``size`` bytes with that number.

    ``addresses`` are source and target of the message, ``ports`` those of the segment; ``rest``
    are the last four bytes of the header, where a size is told.
    """
    half = len(addresses) // 2
    back = addresses[half:] + addresses[:half]
    segment = ports + seq.to_bytes(4, "big")
    whole = segment + bytes(12 + size)
    six = half == 16
    carrier = ipv6.emit(back, ipv4.TCP, whole) if six else ipv4.emit(back, ipv4.TCP, whole)
    quote = carrier[: len(carrier) - len(whole)] + segment
    made = bytes((kind, code, 0, 0)) + rest.to_bytes(4, "big") + quote
    if six:
        head = addresses + len(made).to_bytes(4, "big") + ICMP6.to_bytes(4, "big")
        made = made[:2] + checksum.internet(head + made).to_bytes(2, "big") + made[4:]
        return ipv6.emit(addresses, ICMP6, made)
    made = made[:2] + checksum.internet(made).to_bytes(2, "big") + made[4:]
    return ipv4.emit(addresses, ICMP, made)


def read(packet: bytes) -> Complaint | None:
    """The message in a packet about a TCP segment; None when it is none, or is damaged."""
    try:
        if packet[:1] and packet[0] >> 4 == 6:
            six = ipv6.Packet(packet)
            if six.protocol != ICMP6:
                return None
            return _read(6, six.payload, six.source_bytes + six.target_bytes)
        four = ipv4.Packet(packet)
        if four.protocol != ICMP or four.fragmented:
            return None
        return _read(4, four.payload)
    except WireError:
        return None


def _read(version: int, body: memoryview, addresses: bytes = b"") -> Complaint | None:
    if len(body) < _HEADER:
        return None
    head = b""
    if version == 6:
        head = addresses + len(body).to_bytes(4, "big") + ICMP6.to_bytes(4, "big")
    if not checksum.agrees(head + bytes(body)):
        return None
    kind, code = body[0], body[1]
    mtu = int.from_bytes(body[4:8] if version == 6 else body[6:8], "big")
    quote = bytes(body[_HEADER:])
    header = ipv6.HEADER if version == 6 else (quote[0] & 0xF) * 4 if quote else 0
    if len(quote) < max(header, ipv4.SHORTEST) + _QUOTED or quote[0] >> 4 != version:
        return None
    protocol, at, end = (quote[6], 8, 40) if version == 6 else (quote[9], 12, 20)
    if protocol != ipv4.TCP:
        return None
    segment = quote[header : header + _QUOTED]
    return Complaint(
        version, kind, code, mtu, quote[at:end], segment[:4], int.from_bytes(segment[4:], "big")
    )
