"""What the first bytes of a request say of it: is it HTTP/1.x, where does it end, will its answer?

The filter of a connection reads the same in the kernel (``engine/carry_notes.py``), once a request,
so what is read here is only what can be read there at little cost: lines of the head as far as it
came in one piece and fits into BLOCK bytes.  Not seen are ``text/event-stream`` that is not the
first word of ``Accept``, and headers with more than one space before their value.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

BLOCK = 1024
_NAME_BYTES = 8
KEPT, ENDED = b"HTTP/1.1", b"HTTP/1.0"  # whether its connection is kept, if no header says more
PREFACE = b"PRI * HT"
CONNECT = b"CONN"
HEAD = b"HEAD"
BODILESS = (b"GET ", HEAD)
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
    CHUNKED = 128  # its head does not say how long its body is
    HEAD = 256  # the method HEAD: its answer has no body
    LAST = 512  # HTTP/1.0, or Connection: close
    # Of any request so far: it came before the answer to the one before it was there.
    EARLY = 64


# By their first bytes, as METHODS are.
METHODS_SEEN = {CONNECT: Seen.UPGRADE, HEAD: Seen.HEAD}
# What a line may begin with, in small letters, as far as a machine word goes; and what it says.
HEADERS = {
    b"upgrade:": Seen.UPGRADE,
    b"expect: ": Seen.EXPECT,
    b"expect:1": Seen.EXPECT,
}
# Two machine words.
PAIRS = {
    b"accept: text/eve": Seen.STREAM,
    b"accept:text/even": Seen.STREAM,
    b"transfer-encodin": Seen.CHUNKED,
    b"connection: clos": Seen.LAST,
    b"connection:close": Seen.LAST,
}
# Two machine words but for a byte; then a space or none, and at most so many digits.
LENGTH = (b"content-", b"length:")
DIGITS = 9


@dataclass(frozen=True, slots=True)
class Head:
    """What was seen, and how long the request is with its body; 0 when its head's end was not."""

    seen: Seen
    size: int = 0


def read(payload: bytes) -> Head:
    """What the first bytes of a request say."""
    if payload.startswith(PREFACE):
        return Head(Seen.PREFACE | Seen.UNFINISHED)
    seen = METHODS_SEEN.get(payload[:4], Seen(0))
    block = payload[:BLOCK]
    line, end, _ = block.partition(b"\r")
    if not end or line[-_NAME_BYTES:] not in {KEPT, ENDED}:
        return Head(seen | Seen.UNFINISHED)
    seen |= Seen.LINE if line.endswith(KEPT) else Seen.LINE | Seen.LAST
    at, body = len(line), 0
    while at >= 0:
        if block[at : at + 4] == b"\r\n\r\n":
            more = len(block) > at + 4 and payload.startswith(BODILESS)
            return Head(seen | (Seen.EARLY if more else Seen(0)), at + 4 + body)
        header = block[at + 2 : at + 3 + 2 * _NAME_BYTES + DIGITS].lower()
        if header[: 2 * _NAME_BYTES] in PAIRS:
            seen |= PAIRS[header[: 2 * _NAME_BYTES]]
        elif header.startswith(b"".join(LENGTH)):
            digits = _digits(header[2 * _NAME_BYTES - 1 :].removeprefix(b" "))
            body = int(digits or b"0")
            seen |= Seen(0) if digits else Seen.CHUNKED
        else:
            seen |= HEADERS.get(header[:_NAME_BYTES], Seen(0))
        at = block.find(b"\r", at + 1)
    return Head(seen | Seen.UNFINISHED)


def _digits(value: bytes) -> bytes:
    """Those that it begins with; none when there are too many."""
    count = next((at for at, one in enumerate(value) if not chr(one).isdigit()), len(value))
    return value[:count] if count <= DIGITS else b""
