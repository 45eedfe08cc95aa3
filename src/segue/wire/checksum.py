"""The Internet checksum (RFC 1071) and TCP's, over a pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1).

A ones' complement sum of 16-bit words is the bytes, read as one big number, modulo 65535; Python
divides big numbers faster than it adds small ones.
"""

from __future__ import annotations

_ONES = 0xFFFF
_TCP = 6


def _number(data: bytes | memoryview) -> int:
    whole = int.from_bytes(data, "big")
    return whole << 8 if len(data) & 1 else whole


def internet(data: bytes | memoryview) -> int:
    """The checksum of bytes whose own checksum field is zero."""
    number = _number(data)
    return _ONES - (number % _ONES or _ONES) if number else _ONES


def agrees(data: bytes | memoryview) -> bool:
    """Whether bytes with their own checksum arrived as they were sent."""
    return _number(data) % _ONES == 0


def tcp(addresses: bytes, header: bytes | memoryview, payload: bytes = b"") -> int:
    """Of a segment whose checksum field is zero; ``addresses`` is source and target together.

    A header has an even length, so its data may be summed apart from it, and need not be copied.
    """
    total = int.from_bytes(addresses, "big") + _TCP + len(header) + _number(header)
    if payload:
        total += len(payload) + _number(payload)
    return _ONES - (total % _ONES or _ONES)


def tcp_agrees(addresses: bytes, segment: bytes | memoryview) -> bool:
    """Whether a segment arrived as it was sent, as far as its checksum can tell."""
    total = _number(segment) + int.from_bytes(addresses, "big") + _TCP + len(segment)
    return total % _ONES == 0
