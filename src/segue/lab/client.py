"""A client of a story: what it offers in its SYN, where it stands, and what it hears, in words.

It does what the story says and no more: nothing is repeated, and of what it hears it remembers the
numbers, the stamp to echo and a Fast Open cookie.
"""

from __future__ import annotations

import ipaddress
import zlib

from segue.errors import UsageError
from segue.lab.sides import PORT, SERVERS
from segue.wire import ipv4, ipv6, options, tcp
from segue.wire.options import Options
from segue.wire.tcp import ACK, FIN, RST, SYN, Segment

_MASK = 0xFFFFFFFF
_CLIENTS = {4: "10.78.0.1", 6: "fd78::1"}
_ADDRESSES = {
    version: ipaddress.ip_address(_CLIENTS[version]).packed
    + ipaddress.ip_address(SERVERS[version]).packed
    for version in (4, 6)
}
_STAMP = 1000
_WINDOW = 500
_SHORT = 32  # a longer text is told by its length and a checksum
_WRONG = b"nobody's"  # as long as a cookie is


class Jar:
    """The Fast Open cookie that was given last; all clients of a story have one address."""

    def __init__(self) -> None:
        self.cookie = b""


class Client:
    """One connection's worth of it, from a port that only it has."""

    def __init__(self, port: int, version: int, jar: Jar) -> None:
        self._version = version
        self._jar = jar
        self.ports = port.to_bytes(2, "big") + PORT.to_bytes(2, "big")
        self._offer = Options(mss=1460, window_scale=7, sack_permitted=True, stamps=(_STAMP, 0))
        self._first, self.seq, self._ack, self._theirs = 7000, 7000, 0, 0
        self._seen, self._echo = 0, 0
        self.window, self.stamp, self.claim = _WINDOW, _STAMP, 0

    def offer(self, words: list[str]) -> None:
        """What its SYN is to say, and nothing else (segue.lab.stories has the words)."""
        said = Options()
        for word in words:
            name, _, value = word.partition("=")
            if name == "mss":
                said.mss = int(value)
            elif name == "scale":
                said.window_scale = int(value)
            elif name == "sack":
                said.sack_permitted = True
            elif name == "stamps":
                said.stamps = (_STAMP, 0)
            elif name == "cookie":
                said.fast_open = _WRONG if value == "wrong" else self._jar.cookie
            else:
                raise UsageError(f"no client can offer {word!r}")
        self._offer = said

    def packet(self, flags: int, payload: bytes = b"") -> bytes:
        """Its next segment."""
        said = self._offer
        if flags != SYN:
            said = Options(stamps=(self.stamp, self._echo)) if said.stamps else Options()
        addresses = _ADDRESSES[self._version]
        ack, self.claim = (self._ack + self.claim) & _MASK if flags & ACK else 0, 0
        made = tcp.emit(
            addresses, self.ports, self.seq & _MASK, ack, flags, self.window,
            options.emit(said), payload,
        )  # fmt: skip
        self.seq += len(payload) + bool(flags & (SYN | FIN))
        emit = ipv4.emit if self._version == 4 else ipv6.emit
        return emit(addresses, ipv4.TCP, made)

    def hears(self, segment: Segment) -> str | None:
        """The segment in words that can be compared; None for an ACK that only has news."""
        found = options.parse(segment.options)
        flags, size = segment.flags, len(segment.payload)
        if flags & SYN:
            self._theirs = segment.seq
            if segment.ack != self.seq:
                self.seq = segment.ack
        end = (segment.seq + size + bool(flags & (SYN | FIN))) & _MASK
        if not flags & RST and segment.seq == (self._ack or segment.seq):
            self._ack = end
        news = segment.ack != self._seen
        self._seen = segment.ack if flags & ACK else self._seen
        if flags == ACK and not size and news and not found.sack:
            # Nor is its stamp echoed: it may be what a SYN cookie's options are read from again.
            return None
        if found.stamps is not None:
            self._echo = found.stamps[0]
        if found.fast_open is not None:
            self._jar.cookie = found.fast_open
        return self._describe(segment, found)

    def _describe(self, segment: Segment, found: Options) -> str:
        flags, size = segment.flags, len(segment.payload)
        names = str(segment).split(" ", 3)[3].split(" seq")[0]
        # The answer to a segment without a connection has no number of one: RST with ACK says zero.
        known = self._theirs and (segment.seq or not flags & RST)
        if size > _SHORT:
            names = names.replace("PSH ", "")  # which of several segments has it is free
        words = [names, f"seq +{(segment.seq - self._theirs) & _MASK}" if known else ""]
        words.append(f"ack +{(segment.ack - self._first) & _MASK}" if flags & ACK else "")
        if size:
            text = bytes(segment.payload)
            words.append(repr(text) if size <= _SHORT else f"{size} bytes {zlib.crc32(text):08x}")
        if flags & SYN:
            words.append(
                f"win {segment.window} mss {found.mss} scale {found.window_scale}"
                f" sack {found.sack_permitted}"
            )
        if found.stamps is not None:
            words.append(f"stamps +{(found.stamps[1] - _STAMP) & _MASK}")
        if found.sack:
            ranges = (
                f"{(low - self._first) & _MASK}-{(high - self._first) & _MASK}"
                for low, high in found.sack
            )
            words.append(f"sack {' '.join(ranges)}")
        if found.fast_open is not None:
            words.append(f"cookie of {len(found.fast_open)}")
        return " ".join(word for word in words if word)
