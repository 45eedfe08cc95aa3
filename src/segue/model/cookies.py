"""Numbers that carry what no memory is kept for: SYN cookies, and the cookies of Fast Open.

A SYN cookie is an initial sequence number in which the client's MSS is hidden, so that a request
need not be kept (net/ipv4/syncookies.c).  Other options survive only in the timestamp, if the
client echoes one: its lowest six bits say scale, SACK and ECN.
"""

from __future__ import annotations

from hashlib import blake2s

from segue.model.durations import COOKIE_COUNTS, COOKIE_PERIOD
from segue.model.request import Terms
from segue.model.siphash import siphash
from segue.wire.options import Options
from segue.wire.seq import Seq

_MASK = 0xFFFFFFFF
_LOW = 0xFFFFFF
# What an MSS can be after a cookie (msstab in net/ipv4/syncookies.c and net/ipv6/syncookies.c).
SIZES = {False: (536, 1300, 1440, 1460), True: (1220, 1420, 1440, 8940)}
_SCALE_BITS = 0xF
_NO_SCALE = 0xF
_SACK_BIT = 0x10
STAMP_BITS = 6
FAST_OPEN_SIZE = 8


def _count(now: float) -> int:
    return int(now / COOKIE_PERIOD)


def _digest(secret: bytes, *parts: bytes) -> int:
    return int.from_bytes(blake2s(b"".join(parts), key=secret, digest_size=4).digest(), "big")


def make(secret: bytes, now: float, flow: bytes, irs: Seq, mss: int, *, ipv6: bool) -> Seq:
    """The sequence number for a SYN-ACK that says the largest known size up to this MSS."""
    sizes = SIZES[ipv6]
    index = max((at for at, size in enumerate(sizes) if size <= mss), default=0)
    count = _count(now)
    hidden = (_digest(secret, flow, count.to_bytes(8, "big")) + index) & _LOW
    return Seq((_digest(secret, flow) + irs + (count << 24) + hidden) & _MASK)


def mss_in(secret: bytes, now: float, flow: bytes, irs: Seq, cookie: Seq, *, ipv6: bool) -> int:
    """The MSS that a cookie says; 0 when it is none of ours, or too old (cookie_v4_check)."""
    left = (cookie - _digest(secret, flow) - irs) & _MASK
    now_count = _count(now)
    age = (now_count - (left >> 24)) & 0xFF
    if age >= COOKIE_COUNTS:
        return 0
    # In the first minutes what is no cookie may seem older than the clock, whose counts wrap.
    then = now_count - age & _MASK
    index = (left - _digest(secret, flow, then.to_bytes(8, "big"))) & _LOW
    sizes = SIZES[ipv6]
    return sizes[index] if index < len(sizes) else 0


def stamp(now_stamp: int, terms: Terms, said: Options) -> int:
    """A TSval not later than now, whose lowest bits say what was agreed (cookie_init_timestamp)."""
    scale = _NO_SCALE if terms.scale_in is None else said.window_scale or 0
    bits = scale & _SCALE_BITS | (_SACK_BIT if terms.sack else 0)
    value = now_stamp >> STAMP_BITS << STAMP_BITS | bits
    return (value if value <= now_stamp else value - (1 << STAMP_BITS)) & _MASK


def options_in(echo: int | None, stamps: tuple[int, int] | None, mss: int) -> Options:
    """The options of a forgotten SYN, as far as the echoed timestamp tells."""
    if stamps is None or not echo:
        return Options(mss=mss, stamps=stamps)
    scale = echo & _SCALE_BITS
    return Options(
        mss=mss,
        window_scale=None if scale == _NO_SCALE else scale,
        sack_permitted=bool(echo & _SACK_BIT),
        stamps=stamps,
    )


def fast_open(key: bytes, addresses: bytes) -> bytes:
    """A client's Fast Open cookie: of its address and ours, not of ports (RFC 7413, 4.1.2).

    It is Linux's own (__tcp_fastopen_cookie_gen_cipher), of a key of 16 bytes; ``addresses`` are
    ours and then the client's.
    """
    half = len(addresses) // 2
    return siphash(key, addresses[half:] + addresses[:half]).to_bytes(FAST_OPEN_SIZE, "little")


def fast_open_keys(sysctl: str, own: bytes, secret: bytes) -> tuple[bytes, ...]:
    """The first makes cookies, and all of them are believed (tcp_fastopen_get_cookie_keys).

    A listener may have its ``own``, one or two of 16 bytes; else the sysctl's count, which are
    hexadecimal words; else the one that nobody knows.  Raises ValueError for no such words.
    """
    if own:
        return tuple(own[at : at + 16] for at in range(0, len(own), 16))
    if sysctl:
        return tuple(_key(one) for one in sysctl.split(","))
    return (blake2s(b"fast open", key=secret, digest_size=16).digest(),)


def _key(text: str) -> bytes:
    if text.count("-") != 3:
        raise ValueError(text)
    return b"".join(int(word, 16).to_bytes(4, "little") for word in text.split("-"))
