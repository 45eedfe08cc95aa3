"""An IPv6 packet seen through its bytes (RFC 8200), one taken apart, and one made.

A view copies nothing.  Extension headers are not followed: what is behind one is no TCP here.
"""

from __future__ import annotations

import ipaddress
import struct

from segue.errors import WireError

HEADER = 40
_FIRST = struct.Struct("!IHBB")
_VERSION = 6 << 28


class Packet:
    """One packet.  Raises WireError when the bytes are too few, or no IPv6."""

    __slots__ = ("_data", "hops", "length", "protocol", "source_bytes", "target_bytes")

    def __init__(self, data: bytes) -> None:
        if len(data) < HEADER:
            raise WireError("IPv6 packet", f"{len(data)} bytes are no header", data)
        first, self.length, self.protocol, self.hops = _FIRST.unpack_from(data)
        if first >> 28 != 6:
            raise WireError("IPv6 packet", f"version {first >> 28}", data)
        if HEADER + self.length > len(data):
            raise WireError("IPv6 packet", f"payload of {self.length} in {len(data)} bytes", data)
        self.source_bytes, self.target_bytes = data[8:24], data[24:40]
        self._data = data

    @property
    def source(self) -> str:
        """Who sent it, as text."""
        return str(ipaddress.IPv6Address(self.source_bytes))

    @property
    def target(self) -> str:
        """Whom it is for, as text."""
        return str(ipaddress.IPv6Address(self.target_bytes))

    @property
    def payload(self) -> memoryview:
        """What it carries."""
        return memoryview(self._data)[HEADER : HEADER + self.length]


def parse(packet: bytes) -> tuple[bytes, int, bytes]:
    """Source and target together, the protocol, and the payload.  Raises WireError."""
    seen = Packet(packet)
    return packet[8:HEADER], seen.protocol, bytes(seen.payload)


def emit(addresses: bytes, protocol: int, payload: bytes, *, hops: int = 64, tos: int = 0) -> bytes:
    """A packet; ``addresses`` is source and target together, 32 bytes; ``tos`` its class."""
    return _FIRST.pack(_VERSION | tos << 20, len(payload), protocol, hops) + addresses + payload
