"""Sequence numbers: their own type, with their own arithmetic (RFC 9293, 3.4).

``Seq`` is an int to the machine and a type to the checker: a sum of two is an int again, so that
nobody adds without ``add``.  A class would be safer still, and costs a third of a handshake.
"""

from __future__ import annotations

from typing import NewType

Seq = NewType("Seq", int)

_MASK = 0xFFFFFFFF
_HALF = 0x80000000


def add(number: Seq, by: int) -> Seq:
    """So many after (or, negative, before) a number, modulo 2**32."""
    # Seq() would be a call, each of which takes half as long again as the sum.
    return (number + by) & _MASK  # type: ignore[return-value]


def distance(start: Seq, end: Seq) -> int:
    """How far it is from one to the other: negative when ``end`` is before ``start``."""
    return ((end - start + _HALF) & _MASK) - _HALF


def before(left: Seq, right: Seq) -> bool:
    """Left comes strictly earlier (before() in include/net/tcp.h)."""
    return (left - right) & _MASK >= _HALF


def later(left: Seq, right: Seq) -> Seq:
    """Whichever comes later."""
    return right if (left - right) & _MASK >= _HALF else left
