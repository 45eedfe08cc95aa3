"""A request that says how it is to be answered, the answer, and what a server was doing.

Both sides make the same bytes from a request, so that the client knows each byte of its answer.
"""

from __future__ import annotations

import zlib
from dataclasses import astuple, dataclass
from enum import IntEnum

PORTS = 1 << 16
WORD = 8  # bytes, of each port in the page that a server shares
_PATTERN = bytes(byte for byte in range(256)) * 8


class Doing(IntEnum):
    """What a server is doing with a connection."""

    IDLE = 0  # between two requests, and has read nothing of the next one
    READING = 1  # it has read a part of a request
    WORKING = 2  # it has the request, and has written nothing of its answer
    CONTINUED = 3  # it has asked for the body (100), or given a hint (103)
    ANSWERING = 4  # it has written a part of the answer
    BROKEN = 5  # it could not write the answer


@dataclass(frozen=True, slots=True)
class Plan:
    """An answer: after ``work_us`` the head and ``size`` bytes, in ``pieces`` with pauses."""

    serial: int
    work_us: int = 0
    size: int = 0
    pieces: int = 1
    pause_us: int = 0
    hint: int = 0  # 103 first
    chunked: int = 0  # the body comes in chunks of so many bytes; 0: it has a length

    def request(self, body: bytes = b"", *, expect: bool = False) -> bytes:
        """Its bytes, with those of the body; POST where there is one."""
        line = "/".join(str(one) for one in astuple(self))
        method = "POST" if body else "GET"
        fields = f"Content-Length: {len(body)}\r\n" * bool(body)
        fields += "Expect: 100-continue\r\n" * expect
        return f"{method} /{line} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode() + body

    def answer(self, body: bytes) -> bytes:
        """All of it: it repeats the request's number, and has the sum of its body."""
        ends = "Transfer-Encoding: chunked" if self.chunked else f"Content-Length: {self.size}"
        head = (
            f"HTTP/1.1 200 OK\r\nX-Serial: {self.serial}\r\nX-Sum: {zlib.crc32(body)}\r\n"
            f"{ends}\r\n\r\n"
        )
        start = self.serial % 256
        pattern = _PATTERN[start:] + _PATTERN[:start]
        data = (pattern * (self.size // len(pattern) + 1))[: self.size]
        if not self.chunked:
            return head.encode() + data
        chunks = [data[at : at + self.chunked] for at in range(0, self.size, self.chunked)]
        return b"".join((head.encode(), *map(_chunk, chunks), _chunk(b"")))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def read_head(head: bytes) -> tuple[Plan, int, bool]:
    """What a request's head asks for, how long its body is, and whether it waits for a 100."""
    line, _, fields = head.decode().partition("\r\n")
    plan = Plan(*(int(number) for number in line.split()[1][1:].split("/")))
    length = int(fields.partition("Content-Length: ")[2].partition("\r\n")[0] or 0)
    return plan, length, "Expect:" in fields


@dataclass(frozen=True, slots=True)
class Mark:
    """What the page says of the connection from one port: its number, its descriptor."""

    serial: int
    descriptor: int
    doing: Doing

    def word(self) -> int:
        """Never 0."""
        return (self.serial & 0xFFFFFFFF) << 32 | (self.descriptor + 1) << 8 | self.doing

    @classmethod
    def of(cls, word: int) -> Mark:
        """The mark of a word that is not 0."""
        return cls(word >> 32, (word >> 8 & 0xFFFFFF) - 1, Doing(word & 0xFF))
