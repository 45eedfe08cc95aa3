"""The page that a worker shares with its supervisor: its stage, and which peers are kept.

A file.  The supervisor makes it and writes the stage.  The worker's middleware writes a *mark* for
each peer: that its request is being answered, or that the last one was answered whole, and when;
or that nobody knows when it ends.
A mark is one word, so that no half of one is ever read; many processes and threads write without a
lock between them.  Each writes only what is its own: the word's tag is of peer and process.

A peer has 8 places for its mark.  When all are taken, the oldest answered one goes: most likely of
a connection that is closed.  When none can go, there is no mark.  A peer without a mark is left
alone, so whatever is lost here costs a carry and nothing else.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple

SERVING = 0
DRAINING = 1  # and answers say that their connection closes
CARRYING = 2  # and they do not: kept connections are carried to other workers

_STAGE, _PRESENT = 0, 1  # where these bytes are
_KEY = slice(8, 24)
HEADER_BYTES = 64
_WAYS = 8
_BUCKETS = 2048
BUCKET_BYTES = 8 * _WAYS
BYTES = HEADER_BYTES + BUCKET_BYTES * _BUCKETS

# A word: the tag in 34 bits, the time in 28 bits of ms, and what it says in 2.
_SAYS_BITS, _TIME_BITS, _TAG_BITS = 2, 28, 34
_TIME_MASK = (1 << _TIME_BITS) - 1
_OLDEST_MS = 1 << _TIME_BITS - 1  # else it is none: the clock has wrapped
_MAPPED = bytes(10) + b"\xff\xff"


class Says(IntEnum):
    """What a word says; 0 is no word."""

    BUSY = 1  # a request is being answered
    KEPT = 2  # the last one was answered whole
    LASTING = 3  # events are sent until somebody has had enough, or it is no HTTP any more


class Place(NamedTuple):
    """Where the word of a peer may be, and how it begins."""

    bucket: int
    tag: int

    @property
    def start(self) -> int:
        """Where in the page its bucket begins."""
        return HEADER_BYTES + BUCKET_BYTES * self.bucket


@dataclass(frozen=True, slots=True)
class Mark:
    """What a worker has said of a peer, and how long ago."""

    says: Says
    age_ms: int  # 0 for one that is later than then, or older than a day and a half


def new(key: bytes, stage: int = SERVING) -> bytes:
    """The beginning of a page, which zeros follow; ``key`` is 16 bytes by chance.

    By the key nobody knows where another peer's word is.
    """
    return bytes([stage]).ljust(_KEY.start, b"\0") + key


def present(page: Sequence[int]) -> bool:
    """A middleware marks peers here; to be asked of the header at least."""
    return len(page) >= HEADER_BYTES and page[_PRESENT] != 0


def stage(page: Sequence[int]) -> int:
    """The worker's stage."""
    return page[_STAGE]


def peer(host: str, port: int) -> bytes | None:
    """A peer as its place depends on it; an IPv4 one is the same as a mapped one.

    None if this is no address with a port.
    """
    packed = _packed(host)
    return packed + port.to_bytes(2, "big") if packed and 0 < port < 1 << 16 else None


@lru_cache(maxsize=4096)
def _packed(host: str) -> bytes:
    try:
        if ":" in host:
            return inet_pton(AF_INET6, host.partition("%")[0])
        return _MAPPED + inet_pton(AF_INET, host)
    except (OSError, ValueError):
        return b""


def place(key: bytes, who: bytes, pid: int) -> Place:
    """Where this process has the word of this peer."""
    digest = blake2b(who + pid.to_bytes(4, "big"), digest_size=8, key=key).digest()
    number = int.from_bytes(digest, "little")
    return Place(number % _BUCKETS, number >> 64 - _TAG_BITS)


def key_of(page: bytes | memoryview) -> bytes:
    """The page's key."""
    return bytes(page[_KEY])


def read(page: bytes, where: Place, now_ms: int) -> Mark | None:
    """What is said there; None if nothing is.  ``now_ms`` is of CLOCK_MONOTONIC."""
    return said(page[where.start : where.start + BUCKET_BYTES], where, now_ms)


def said(bucket: bytes, where: Place, now_ms: int) -> Mark | None:
    """The same from the part of the page that begins at ``where.start``."""
    for at in range(0, len(bucket), 8):
        word = int.from_bytes(bucket[at : at + 8], "little")
        if word and word >> 64 - _TAG_BITS == where.tag:
            try:
                says = Says(word & 3)
            except ValueError:
                return None
            age = _age(word, now_ms)
            return Mark(says, age if age < _OLDEST_MS else 0)
    return None


def announce(page: memoryview) -> None:
    """Say that a middleware marks peers here."""
    page[_PRESENT] = 1


def words(page: memoryview) -> memoryview:
    """The words, each written and read whole."""
    return page[HEADER_BYTES:].cast("Q")


def write(
    words: MutableSequence[int] | memoryview, where: Place, says: Says | None, now_ms: int
) -> None:
    """Say this of a peer, or nothing more of it (None).

    The words of a page are in the machine's order, which is the order of ``read`` wherever eBPF
    programs of Segue run.
    """
    first = where.bucket * _WAYS
    free, oldest, oldest_age = -1, -1, -1
    chosen = -1
    for at, word in enumerate(words[first : first + _WAYS], first):
        if not word:
            free = at
        elif word >> 64 - _TAG_BITS == where.tag:
            chosen = at
            break
        elif word & 3 == Says.KEPT and (age := _age(word, now_ms)) > oldest_age:
            oldest, oldest_age = at, age
    if says is None:
        if chosen >= 0:
            words[chosen] = 0
        return
    if chosen < 0:
        chosen = free if free >= 0 else oldest
    if chosen >= 0:
        time = (now_ms & _TIME_MASK) << _SAYS_BITS
        words[chosen] = where.tag << 64 - _TAG_BITS | time | says


def _age(word: int, now_ms: int) -> int:
    return now_ms - (word >> _SAYS_BITS) & _TIME_MASK
