"""How far a server has come with its answer, by the bytes that it has sent: the words for it.

They are read in the kernel, as they go out (``engine/carry_answer.py``): the head, and from there
on where the body ends (RFC 9112, section 6).  What is seen is followed byte by byte, so an end is
known only where every byte before it was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

# A longer head is not read to its end.
BLOCK = 4096


class Phase(IntEnum):
    """Where in an answer the next byte is that it sends."""

    NONE = 0  # nothing of an answer was seen
    UNKNOWN = 1  # it cannot be followed: no head of HTTP/1.1 in one piece, or a byte was not seen
    WHOLE = 2  # behind its end
    UNTIL_CLOSE = 3  # in a body that ends with the connection
    TUNNEL = 4  # in another protocol, behind a 101
    MORE = 5  # behind bytes that came after its end
    # From here on it is known that more of it has to come.
    HEAD = 8  # at its beginning, or behind a 1xx
    LENGTH = 9  # in a body whose length is known
    CHUNK = 10  # at the beginning of a chunk's size
    SIZE = 11  # behind a digit of it
    EXTENSION = 12  # in the rest of that line
    DATA = 13  # in the data of a chunk, or in the end of its line
    TRAILER = 14  # at the beginning of a line behind the last chunk
    FIELD = 15  # in such a line
    LAST = 16  # before the last byte
    TORN = 17  # in a head, whose rest is not read: it is UNKNOWN from the next byte on


class Said(IntFlag):
    """What the head of an answer says."""

    CLOSE = 1  # Connection: close
    BODILESS = 2  # its status has no body
    INTERIM = 4  # 1xx, but not 101
    CHUNKED = 8
    LENGTH = 16
    STRANGE = 32  # a length or a coding that is not read


@dataclass(frozen=True, slots=True)
class Answer:
    """What was seen of the last answer; numbers are as on the wire, modulo 2**32."""

    phase: Phase = Phase.NONE
    to: int = 0  # the request that it answers, by the number of its first byte
    at: int = 0  # the number of the next byte that is to be seen
    closes: bool = False  # its head says that the connection ends behind it


UNSEEN = Answer()
