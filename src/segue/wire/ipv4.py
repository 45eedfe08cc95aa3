"""An IPv4 packet seen through its bytes (RFC 791), and one made.

A view: nothing is copied, and what is not asked for is not looked at.  The checksum is judged only
by ``header_agrees``.
"""

from __future__ import annotations

import ipaddress
import struct

from segue.errors import WireError
from segue.wire import checksum

TCP = 6
SHORTEST = 20  # a header without options
_HEADER = struct.Struct("!BBHHHBBH4s4s")
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
        self._header = (first & 0x0F) * 4
        if first >> 4 != 4:
            raise WireError("IPv4 packet", f"version {first >> 4}", data)
        if not SHORTEST <= self._header <= self.length <= len(data):
            why = f"header of {self._header}, length {self.length}, in {len(data)} bytes"
            raise WireError("IPv4 packet", why, data)
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

    @property
    def header_agrees(self) -> bool:
        """The header arrived as it was sent, as far as its checksum can tell."""
        return checksum.agrees(self._data[: self._header])


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
    total = first + length + number + _DONT_FRAGMENT + last + int.from_bytes(addresses, "big")
    summed = checksum.of_sum(total)
    return _MADE.pack(first, length, number, _DONT_FRAGMENT, last, summed, addresses) + payload
