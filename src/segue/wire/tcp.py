"""A TCP segment seen through its bytes (RFC 9293, section 3.1), one taken apart, and one made.

A view copies nothing, and judges neither the checksum nor the options.
"""

from __future__ import annotations

import struct

from segue.errors import WireError
from segue.wire import checksum, ipv4, ipv6
from segue.wire.checksum import words
from segue.wire.seq import Seq

# Plain numbers, because a predicate looks at every packet: an enum costs a microsecond each time.
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
_NAMES = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
SHORTEST = 20  # a header without options
_HEADER = struct.Struct("!HHIIBBHHH")
_PARSED = struct.Struct("!4sIIBBH")
_MADE = struct.Struct("!4sIIHHHH")


class Segment:
    """One segment.  ``seq`` and ``ack`` are as on the wire, modulo 2**32.

    Raises WireError when the bytes are too few for what they claim.
    """

    __slots__ = (
        "_data", "_header", "ack", "dport", "flags", "seq", "sport", "urgent", "window",
    )  # fmt: skip

    def __init__(self, data: bytes | memoryview) -> None:
        if len(data) < SHORTEST:
            raise _too_short(data)
        (
            self.sport, self.dport, self.seq, self.ack, offset, self.flags,
            self.window, _, self.urgent,
        ) = _HEADER.unpack_from(data)  # fmt: skip
        self._header = _header_size(offset, data)
        self._data = memoryview(data)

    @property
    def options(self) -> memoryview:
        """The options with their padding, as they are."""
        return self._data[SHORTEST : self._header]

    @property
    def payload(self) -> memoryview:
        """The data."""
        return self._data[self._header :]

    def __str__(self) -> str:
        said = names(self.flags) or "no flags"
        return f"{self.sport} > {self.dport} {said} seq {self.seq} ack {self.ack}"


def parse(addresses: bytes, segment: bytes) -> tuple[bytes, Seq, Seq, int, int, bytes, bytes]:
    """Ports, seq, ack, flags, window, options and payload; ``addresses`` and the ports are source
    and target together.

    Raises WireError as ``Segment`` does, and for a wrong checksum.
    """
    if len(segment) < SHORTEST:
        raise _too_short(segment)
    ports, seq, ack, offset, flags, window = _PARSED.unpack_from(segment)
    header = _header_size(offset, segment)
    if not checksum.tcp_agrees(addresses, segment):
        raise WireError("TCP segment", "wrong checksum", segment)
    return ports, seq, ack, flags, window, segment[SHORTEST:header], segment[header:]


def _too_short(data: bytes | memoryview) -> WireError:
    return WireError("TCP segment", f"{len(data)} bytes are no header", bytes(data))


def _header_size(offset: int, data: bytes | memoryview) -> int:
    """By the byte that says where the data begins, where that makes sense."""
    size = (offset >> 4) * 4
    if not SHORTEST <= size <= len(data):
        raise WireError("TCP segment", f"header of {size} in {len(data)} bytes", bytes(data))
    return size


def names(flags: int) -> str:
    """The flags by name, the lowest first."""
    return " ".join(name for bit, name in enumerate(_NAMES) if flags >> bit & 1)


def emit(
    addresses: bytes,
    ports: bytes,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    options: bytes = b"",
    payload: bytes = b"",
) -> bytes:
    """A segment with its checksum; ``addresses`` and ``ports`` are source and target together.

    The options must be padded to four bytes (segue.wire.options does).
    """
    header = SHORTEST + len(options)
    offset = header << 10 | flags  # in words, in the upper half of its byte
    total = (
        words(addresses) + ipv4.TCP + header + len(payload)
        + words(ports) + seq + ack + offset + window + words(options)
    )  # fmt: skip
    if payload:
        total += checksum.number(payload)
    made = _MADE.pack(ports, seq, ack, offset, window, checksum.of_sum(total), 0)
    return made + options + payload


def segment_in(packet: bytes) -> Segment | None:
    """The segment in a packet of IPv4 or IPv6.

    None when it carries no TCP, is a fragment, is no IP or makes no sense: a predicate over
    packets has no use for the difference.
    """
    try:
        if packet[:1] and packet[0] >> 4 == 6:
            six = ipv6.Packet(packet)
            return Segment(six.payload) if six.protocol == ipv4.TCP else None
        carrier = ipv4.Packet(packet)
        if carrier.protocol != ipv4.TCP or carrier.fragmented:
            return None
        return Segment(carrier.payload)
    except WireError:
        return None
