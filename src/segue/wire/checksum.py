"""The Internet checksum (RFC 1071) and TCP's, over a pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1).

A ones' complement sum of 16-bit words is the bytes, read as one big number, modulo 65535; Python
divides big numbers faster than it adds small ones.
"""

from __future__ import annotations

_ONES = 0xFFFF
_TCP = 6
_AT, _HEADER = 16, 20  # in a segment of TCP, and the least before its data
_LONG = 512  # bytes; a shorter one is divided as fast as it is folded
# At the edges of words, so that the sum stays; the first is half of what Ethernet carries at most.
_FOLDS = tuple((bits, (1 << bits) - 1) for bits in (6144, 3072, 1536))

# Whole words as one number, their sum modulo 65535.  It is bound once, since to find it takes
# about as long as to call it.
words = int.from_bytes


def number(data: bytes | memoryview) -> int:
    """A number with the same remainder as that of ``words``; an odd byte at the end is padded.

    A long one is folded, since the halves are added in a fraction of the time that dividing takes.
    """
    whole = words(data)
    if len(data) > _LONG:
        for bits, mask in _FOLDS:
            whole = (whole >> bits) + (whole & mask)
    return whole << 8 if len(data) & 1 else whole


def of_sum(total: int) -> int:
    """Of a sum of words, and of numbers of whole words, whose own checksum field is not in it.

    A word counts the same wherever it stands, so a header that is not made yet can be summed by its
    fields.  The sum must not be zero.
    """
    return _ONES - (total % _ONES or _ONES)


def internet(data: bytes | memoryview) -> int:
    """The checksum of bytes whose own checksum field is zero."""
    total = number(data)
    return of_sum(total) if total else _ONES


def agrees(data: bytes | memoryview) -> bool:
    """Whether bytes with their own checksum arrived as they were sent."""
    return words(data) % _ONES == 0  # padding would change nothing in that


def tcp(addresses: bytes, segment: bytes | memoryview) -> int:
    """Of a segment whose checksum field is zero; ``addresses`` is source and target together."""
    return of_sum(words(addresses) + _TCP + len(segment) + number(segment))


def tcp_agrees(addresses: bytes, segment: bytes | memoryview) -> bool:
    """Whether a segment arrived as it was sent, as far as its checksum can tell."""
    return (words(addresses) + _TCP + len(segment) + number(segment)) % _ONES == 0


def completed(addresses: bytes, segment: bytes) -> bytes | None:
    """A segment that arrived as it was sent, with its checksum; None for one that did not.

    Between two ends on one host there is only the sum of the pseudo-header, and the rest is left to
    an interface that never comes (CHECKSUM_PARTIAL of Linux).
    """
    if tcp_agrees(addresses, segment):
        return segment
    begun = words(addresses) + _TCP + len(segment)
    if (begun - words(segment[_AT : _AT + 2])) % _ONES:
        return None
    header = segment[:_AT] + bytes(2) + segment[_AT + 2 : _HEADER]
    summed = tcp(addresses, header + segment[_HEADER:])
    return header[:_AT] + summed.to_bytes(2, "big") + segment[_AT + 2 :]
