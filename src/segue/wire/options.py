"""TCP options as a value (RFC 9293, 3.2; RFC 7323; RFC 2018; RFC 7413).

Read as tcp_parse_options does: what makes no sense ends the reading, and what stood before it
counts.  Written in the order in which Linux writes them (tcp_options_write), so that two sides can
be compared byte by byte.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_END, _NOP, _MSS, _WINDOW_SCALE, _SACK_PERMITTED, _SACK, _TIMESTAMPS = 0, 1, 2, 3, 4, 5, 8
_FAST_OPEN = 34
_EXPERIMENT, _MAGIC = 254, bytes((0xF9, 0x89))  # RFC 6994
MAX_WINDOW_SCALE = 14
_COOKIE_LENGTHS = range(4, 17)
_STAMPS = struct.Struct("!II")
_STAMPED = struct.Struct("!III")
_OF_A_SYN = struct.Struct("!2sH4sII3sB")
_ALIGNED_STAMPS = 0x0101080A  # NOP NOP, kind 8, length 10
_STAMPS_AFTER_SACK = 0x0402080A  # SACK permitted in the place of the two NOPs
# Before the values of a SYN that has a size, SACK permitted, stamps and a scale, as Linux's has.
_HEADS_OF_A_SYN = (
    bytes((_MSS, 4)),
    _STAMPS_AFTER_SACK.to_bytes(4, "big"),
    bytes((_NOP, _WINDOW_SCALE, 3)),
)


@dataclass(slots=True)
class Options:
    """What a segment's options say; None where one is not there.

    ``fast_open`` is b"" where a cookie is asked for; ``experimental`` is whether that is said with
    the number that Fast Open had before its own (RFC 7413, 9).
    """

    mss: int | None = None
    window_scale: int | None = None
    sack_permitted: bool = False
    stamps: tuple[int, int] | None = None  # TSval, TSecr
    sack: tuple[tuple[int, int], ...] = ()
    fast_open: bytes | None = None
    experimental: bool = False


NONE = Options()


def parse(data: bytes | memoryview) -> Options:
    """Read them; nothing is ever refused.  Options of other kinds are passed over."""
    size = len(data)
    if not size:
        return NONE
    if size == 12:
        head, value, echo = _STAMPED.unpack(data)
        if head == _ALIGNED_STAMPS:
            return Options(stamps=(value, echo))
    elif size == 20:
        first, mss, second, value, echo, third, scale = _OF_A_SYN.unpack(data)
        if (first, second, third) == _HEADS_OF_A_SYN and mss:
            return Options(mss, min(scale, MAX_WINDOW_SCALE), True, (value, echo))
    found = Options()
    at = 0
    while at < size:
        kind = data[at]
        if kind == _END:
            break
        if kind == _NOP:
            at += 1
            continue
        length = data[at + 1] if at + 1 < size else 0
        if length < 2 or at + length > size:
            break
        _take(found, kind, bytes(data[at + 2 : at + length]))
        at += length
    return found


def _take(found: Options, kind: int, value: bytes) -> None:
    if kind == _MSS and len(value) == 2:
        # tcp_parse_options passes over a size of zero.
        found.mss = int.from_bytes(value, "big") or found.mss
    elif kind == _WINDOW_SCALE and len(value) == 1:
        found.window_scale = min(value[0], MAX_WINDOW_SCALE)  # RFC 7323, 2.3
    elif kind == _SACK_PERMITTED and not value:
        found.sack_permitted = True
    elif kind == _TIMESTAMPS and len(value) == 8:
        found.stamps = _STAMPS.unpack(value)
    elif kind == _SACK and value and len(value) % 8 == 0:
        found.sack = tuple(_STAMPS.iter_unpack(value))
    elif kind == _FAST_OPEN:
        _take_cookie(found, value, experimental=False)
    elif kind == _EXPERIMENT and value[:2] == _MAGIC:
        _take_cookie(found, value[2:], experimental=True)


def _take_cookie(found: Options, value: bytes, *, experimental: bool) -> None:
    if not len(value) & 1 and (not value or len(value) in _COOKIE_LENGTHS):
        found.fast_open, found.experimental = value, experimental


def emit(options: Options) -> bytes:
    """As bytes, padded to a multiple of four with NOPs."""
    made = b""
    if options.mss is not None:
        made += struct.pack("!BBH", _MSS, 4, options.mss)
    if options.stamps is not None:
        head = _STAMPS_AFTER_SACK if options.sack_permitted else _ALIGNED_STAMPS
        made += _STAMPED.pack(head, *options.stamps)
    elif options.sack_permitted:
        made += bytes((_NOP, _NOP, _SACK_PERMITTED, 2))
    if options.window_scale is not None:
        made += bytes((_NOP, _WINDOW_SCALE, 3, options.window_scale))
    if options.sack:
        made += bytes((_NOP, _NOP, _SACK, 2 + 8 * len(options.sack)))
        made += b"".join(_STAMPS.pack(*block) for block in options.sack)
    if options.fast_open is not None:
        size = len(options.fast_open)
        if options.experimental:
            made += bytes((_EXPERIMENT, 4 + size)) + _MAGIC + options.fast_open
        else:
            made += bytes((_FAST_OPEN, 2 + size)) + options.fast_open
    return made + bytes((_NOP,)) * (-len(made) % 4)


def aligned_stamps(value: int, echo: int) -> bytes:
    """The option that every segment of most connections has, without the detour of a value."""
    return _STAMPED.pack(_ALIGNED_STAMPS, value & 0xFFFFFFFF, echo)
