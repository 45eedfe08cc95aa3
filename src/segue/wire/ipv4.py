"""An IPv4 packet seen through its bytes (RFC 791), one taken apart, and one made.

A view copies nothing, and does not judge the checksum.  ``parse`` is for a host that gets many
packets: it refuses all that such a host would drop, and takes less than half of the time of a view
of which the same is asked.
"""

from __future__ import annotations

import ipaddress
import struct

from segue.errors import WireError
from segue.wire import checksum

TCP = 6
SHORTEST = 20  # a header without options
_HEADER = struct.Struct("!BBHHHBBH4s4s")
_PARSED = struct.Struct("!BxHxxHxBxx8s")
_MADE = struct.Struct("!HHHHHH8s")
_DONT_FRAGMENT = 0x4000
_MORE_FRAGMENTS = 0x2000
_OFFSET_MASK = 0x1FFF


class Packet:
    """One packet.  Raises WireError when the bytes are too few, or no IPv4."""

    __slots__ = (
        "_data", "_fragment", "_header", "identification", "length", "protocol",
        "source_bytes", "target_bytes", "ttl",
    )  # fmt: skip

    def __init__(self, data: bytes) -> None:
        if len(data) < SHORTEST:
            raise WireError("IPv4 packet", f"{len(data)} bytes are no header", data)
        (
            first, _, self.length, self.identification, self._fragment,
            self.ttl, self.protocol, _, self.source_bytes, self.target_bytes,
        ) = _HEADER.unpack_from(data)  # fmt: skip
        self._header = _header_size(first, self.length, data)
        self._data = data

    @property
    def source(self) -> str:
        """Who sent it, as text."""
        return str(ipaddress.IPv4Address(self.source_bytes))

    @property
    def target(self) -> str:
        """Whom it is for, as text."""
        return str(ipaddress.IPv4Address(self.target_bytes))

    @property
    def fragmented(self) -> bool:
        """It is a piece of a packet, and not the whole."""
        return bool(self._fragment & (_MORE_FRAGMENTS | _OFFSET_MASK))

    @property
    def payload(self) -> memoryview:
        """What it carries, without what a link may have padded it with."""
        return memoryview(self._data)[self._header : self.length]


def parse(packet: bytes) -> tuple[bytes, int, bytes]:
    """Source and target together, the protocol, and the payload.

    Raises WireError as ``Packet`` does, for a fragment, and for a header with a wrong checksum.
    """
    if len(packet) < SHORTEST:
        raise WireError("IPv4 packet", f"{len(packet)} bytes are no header", packet)
    first, length, fragment, protocol, addresses = _PARSED.unpack_from(packet)
    header = _header_size(first, length, packet)
    if fragment & (_MORE_FRAGMENTS | _OFFSET_MASK):
        raise WireError("IPv4 packet", "a fragment", packet)
    if not checksum.agrees(packet[:header]):
        raise WireError("IPv4 packet", "wrong header checksum", packet)
    return addresses, protocol, packet[header:length]


def _header_size(first: int, length: int, data: bytes) -> int:
    """By its first byte, where that and the length make sense."""
    size = (first & 0x0F) * 4
    if first >> 4 != 4:
        raise WireError("IPv4 packet", f"version {first >> 4}", data)
    if not SHORTEST <= size <= length <= len(data):
        why = f"header of {size}, length {length}, in {len(data)} bytes"
        raise WireError("IPv4 packet", why, data)
    return size


def emit(
    addresses: bytes,
    protocol: int,
    payload: bytes,
    *,
    identification: int = 0,
    ttl: int = 64,
    tos: int = 0,
) -> bytes:
    """A packet that is not to be fragmented; ``addresses`` is source and target together."""
    length = SHORTEST + len(payload)
    first, last, number = 0x4500 | tos, ttl << 8 | protocol, identification & 0xFFFF
    total = first + length + number + _DONT_FRAGMENT + last + checksum.words(addresses)
    summed = checksum.of_sum(total)
    return _MADE.pack(first, length, number, _DONT_FRAGMENT, last, summed, addresses) + payload
