"""What the first bytes of a request say of it: is it HTTP/1.x, and will its answer end?

The filter of a connection reads the same in the kernel (``engine/carry_notes.py``), once a request,
so what is read here is only what can be read there at little cost: lines of the head as far as it
came in one piece and fits into BLOCK bytes.  Not seen are ``text/event-stream`` that is not the
first word of ``Accept``, and a second request behind one that may have a body.
"""

from __future__ import annotations

from enum import IntFlag

BLOCK = 1024
_NAME_BYTES = 8
_VERSIONS = {b"HTTP/1.1", b"HTTP/1.0"}
PREFACE = b"PRI * HT"
CONNECT = b"CONN"
BODILESS = (b"GET ", b"HEAD")
# The beginnings of requests, as one machine word.
METHODS = (*BODILESS, CONNECT, b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC", b"TRAC", b"PRI ")


class Seen(IntFlag):
    """What was seen of the last request of a connection, or of all of them."""

    LINE = 1  # a request line of HTTP/1.x
    UPGRADE = 2  # a header Upgrade, or the method CONNECT
    STREAM = 4  # Accept: text/event-stream
    EXPECT = 8  # a header Expect: its answer may be two
    UNFINISHED = 16  # the end of its head was not seen
    PREFACE = 32  # of HTTP/2
    # Of any request so far: it came before the answer to the one before it was there.
    EARLY = 64


# What a line may begin with, in small letters, as far as a machine word goes; and what it says.
HEADERS = {
    b"upgrade:": Seen.UPGRADE,
    b"expect: ": Seen.EXPECT,
    b"expect:1": Seen.EXPECT,
}
# Two machine words.
ACCEPT = {b"accept: ": b"text/eve", b"accept:t": b"ext/even"}


def read(payload: bytes) -> Seen:
    """What the first bytes of a request say."""
    if payload.startswith(PREFACE):
        return Seen.PREFACE | Seen.UNFINISHED
    seen = Seen.UPGRADE if payload.startswith(CONNECT) else Seen(0)
    block = payload[:BLOCK]
    line, end, _ = block.partition(b"\r")
    if not end or line[-_NAME_BYTES:] not in _VERSIONS:
        return seen | Seen.UNFINISHED
    seen |= Seen.LINE
    at = len(line)
    while at >= 0:
        if block[at : at + 4] == b"\r\n\r\n":
            more = len(block) > at + 4 and payload.startswith(BODILESS)
            return seen | (Seen.EARLY if more else Seen(0))
        seen |= _header(block[at + 2 : at + 2 + 2 * _NAME_BYTES].lower())
        at = block.find(b"\r", at + 1)
    return seen | Seen.UNFINISHED


def _header(line: bytes) -> Seen:
    first, second = line[:_NAME_BYTES], line[_NAME_BYTES:]
    if first in ACCEPT and second == ACCEPT[first]:
        return Seen.STREAM
    return HEADERS.get(first, Seen(0))
