"""A client of the model: it says the segments that it is told to say, and hears the answers.

It does no more: it repeats nothing and waits for nothing, and of what it hears it remembers the
numbers, the stamp to echo, and a Fast Open cookie.  So a test says of each segment what it is to
be, also a wrong one, and of what it is sent what is lost on the way.
"""

from __future__ import annotations

import ipaddress
import zlib
from dataclasses import dataclass

from segue.address import Address
from segue.wire import ipv4, ipv6, options, tcp
from segue.wire.options import Options
from segue.wire.tcp import ACK, FIN, PSH, RST, SYN, Segment

_MASK = 0xFFFFFFFF
STAMP = 1000  # what its clock says, unless it is told otherwise
_FIRST = 7000  # its first number
_WINDOW = 500
_SHORT = 32  # a longer text is told by its length and a checksum
OFFER = Options(mss=1460, window_scale=7, sack_permitted=True, stamps=(STAMP, 0))


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer.  Numbers count from the first of each side; None where there is none.

    ``str`` gives it in words, in which two answers can be compared: stamps are told by which of
    the client's they echo, and of a long text the length and a checksum.
    """

    flags: int
    seq: int | None
    ack: int | None
    window: int
    payload: bytes
    options: Options
    ranges: tuple[tuple[int, int], ...]  # of SACK
    is_news: bool  # an ACK by itself that acknowledges something new, and has no ranges

    @property
    def names(self) -> str:
        """The flags by name."""
        return tcp.names(self.flags)

    def told(self, *, window: bool = False) -> str:
        """In words; the window of a segment without SYN only where that is asked for."""
        size, said = len(self.payload), self.options
        # Which of several long segments has PSH is free.
        words = [self.names.replace("PSH ", "") if size > _SHORT else self.names]
        words.append("" if self.seq is None else f"seq +{self.seq}")
        words.append("" if self.ack is None else f"ack +{self.ack}")
        if size:
            short = size <= _SHORT
            words.append(
                repr(self.payload) if short else f"{size} bytes {zlib.crc32(self.payload):08x}"
            )
        if self.flags & SYN:
            words.append(
                f"win {self.window} mss {said.mss} scale {said.window_scale}"
                f" sack {said.sack_permitted}"
            )
        elif window:
            words.append(f"win {self.window}")
        if said.stamps is not None:
            words.append(f"stamps +{(said.stamps[1] - STAMP) & _MASK}")
        if self.ranges:
            words.append("sack " + " ".join(f"{low}-{high}" for low, high in self.ranges))
        if said.fast_open is not None:
            words.append(f"cookie of {len(said.fast_open)}")
        return " ".join(word for word in words if word)

    def __str__(self) -> str:
        return self.told()


class Client:
    """One connection's worth of a client at ``address``, whose port only it has.

    ``offer`` is what its SYN says; it may be changed before.  ``seq`` is the number of its next
    segment; ``window``, ``stamp`` and ``claim`` are what the next ones say: the window field, the
    clock, and how much more than was heard the next one acknowledges.  If it has offered SACK, it
    tells of what arrives out of its order, and of what comes twice.
    """

    def __init__(self, address: Address, server: Address, offer: Options = OFFER) -> None:
        here, there = (ipaddress.ip_address(one.host) for one in (address, server))
        self._addresses = here.packed + there.packed
        self._ports = address.port.to_bytes(2, "big") + server.port.to_bytes(2, "big")
        self._version = here.version
        self.offer = offer
        self.seq, self._ack, self._theirs = _FIRST, 0, 0
        self._seen, self._echo = 0, 0
        self.window, self.stamp, self.claim = _WINDOW, STAMP, 0
        self.cookie = b""  # of Fast Open, that was given last
        self._came = 0  # segments of data
        self._losses: set[int] = set()
        self._ranges: list[tuple[int, int]] = []  # beyond what is acknowledged, the latest first
        self._twice: tuple[int, int] | None = None
        self._heard_twice: tuple[int, int] | None = None  # a range that the last segment told

    def syn(self, data: bytes = b"") -> bytes:
        """The packet that asks for a connection; with ``data`` by Fast Open."""
        return self.segment(SYN, data)

    def ack(self) -> bytes:
        """An ACK of all that was heard: after a SYN-ACK it ends the handshake."""
        return self.segment(ACK)

    def data(self, data: bytes) -> bytes:
        """Some data."""
        return self.segment(ACK | PSH, data)

    def fin(self) -> bytes:
        """It sends nothing more."""
        return self.segment(ACK | FIN)

    def rst(self) -> bytes:
        """It is gone."""
        return self.segment(RST)

    def segment(self, flags: int, payload: bytes = b"") -> bytes:
        """A packet with any flags; what it carries is counted."""
        said = self.offer
        if flags != SYN:
            stamps = (self.stamp, self._echo) if said.stamps else None
            said = Options(stamps=stamps, sack=() if flags & RST else self._told())
        ack, self.claim = (self._ack + self.claim) & _MASK if flags & ACK else 0, 0
        made = tcp.emit(
            self._addresses, self._ports, self.seq & _MASK, ack, flags, self.window,
            options.emit(said), payload,
        )  # fmt: skip
        self.seq += len(payload) + bool(flags & (SYN | FIN))
        if self._version == 6:
            return ipv6.emit(self._addresses, ipv4.TCP, made)
        return ipv4.emit(self._addresses, ipv4.TCP, made)

    def lose(self, number: int) -> None:
        """Of the segments of data that come from now on the one of this number is lost; 1 is the
        next.  ``hears`` tells it all the same.
        """
        self._losses.add(self._came + number)

    def _told(self) -> tuple[tuple[int, int], ...]:
        """What its next segment says of gaps (RFC 2018, RFC 2883)."""
        if not self.offer.sack_permitted:
            return ()
        twice, self._twice = self._twice, None
        blocks = [one for one in (twice, *self._ranges) if one is not None]
        return tuple(blocks[: 3 if self.offer.stamps else 4])

    def _takes(self, seq: int, end: int) -> None:
        """What has arrived of their data, or their FIN."""
        if _ahead(end, self._ack) <= 0:
            self._twice = (seq, end)
            return
        if _ahead(seq, self._ack) <= 0:
            for low, high in sorted(self._ranges, key=lambda one: _ahead(one[0], seq)):
                end = high if _ahead(low, end) <= 0 < _ahead(high, end) else end
            self._ack = end
            self._ranges = [one for one in self._ranges if _ahead(one[1], end) > 0]
            return
        low, high, rest = seq, end, []
        for one in self._ranges:
            if _ahead(one[0], seq) <= 0 <= _ahead(one[1], end):
                self._twice = (seq, end)
            if _ahead(one[0], high) <= 0 <= _ahead(one[1], low):
                low = low if _ahead(low, one[0]) <= 0 else one[0]
                high = high if _ahead(high, one[1]) >= 0 else one[1]
            else:
                rest.append(one)
        self._ranges = [(low, high), *rest]

    def hears(self, packet: bytes) -> Heard | None:
        """Take an answer into account; None when the packet is not for this client."""
        segment = tcp.segment_in(packet)
        if segment is None or _ports_there(segment) != self._ports:
            return None
        said = options.parse(segment.options)
        flags, size = segment.flags, len(segment.payload)
        if flags & SYN:
            self._theirs = segment.seq
            if segment.ack != self.seq:
                self.seq = segment.ack
        end = (segment.seq + size + bool(flags & (SYN | FIN))) & _MASK
        self._came += bool(size)
        lost = bool(size) and self._came in self._losses
        if not self._ack and not flags & RST:
            self._ack = end
        elif end != segment.seq and not flags & (SYN | RST) and not lost:
            self._takes(segment.seq, end)
        is_news = flags == ACK and not size and segment.ack != self._seen and not said.sack
        self._seen = segment.ack if flags & ACK else self._seen
        # Of mere news the stamp is not echoed: when they come is free, and the stamp may be what a
        # SYN cookie's options are read from again.
        if said.stamps is not None and not is_news and not lost:
            self._echo = said.stamps[0]
        if said.fast_open is not None:
            self.cookie = said.fast_open
        # The answer to a segment without a connection has no number of one: RST with ACK says zero.
        known = self._theirs and (segment.seq or not flags & RST)
        ranges = said.sack
        if size and ranges[:1] == (self._heard_twice,):
            ranges = ranges[1:]  # how many segments Linux makes at once depends on its pace
        else:
            self._heard_twice = ranges[0] if _is_twice(ranges, segment.ack) else None
        return Heard(
            flags=flags,
            seq=(segment.seq - self._theirs) & _MASK if known else None,
            ack=(segment.ack - _FIRST) & _MASK if flags & ACK else None,
            window=segment.window,
            payload=bytes(segment.payload),
            options=said,
            ranges=tuple(((low - _FIRST) & _MASK, (high - _FIRST) & _MASK) for low, high in ranges),
            is_news=is_news,
        )


def _is_twice(ranges: tuple[tuple[int, int], ...], ack: int) -> bool:
    """The first is of something that came again (RFC 2883, 4)."""
    if not ranges:
        return False
    low, high = ranges[0]
    inside = any(_ahead(low, one[0]) >= 0 >= _ahead(high, one[1]) for one in ranges[1:2])
    return inside or _ahead(low, ack) < 0


def _ahead(number: int, of: int) -> int:
    """How far a number is ahead of another; negative where it is behind."""
    return ((number - of + (1 << 31)) & _MASK) - (1 << 31)


def _ports_there(segment: Segment) -> bytes:
    """The ports of an answer as its receiver has them: its own first."""
    return b"".join(port.to_bytes(2, "big") for port in (segment.dport, segment.sport))
