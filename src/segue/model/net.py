"""What belongs to a network namespace: settings, counters, tables, time, and what is to go out.

Stands for ``struct net`` and the hash tables of ``tcp_hashinfo``.  Every entry of the model first
says what time it is (``now``); nothing here asks a clock, and all chance comes from ``secret``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2s
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from segue.model.arrival import Arrival, Path
from segue.model.durations import STAMP_TICK
from segue.model.events import Event
from segue.model.group import Group
from segue.model.listener import Endpoint
from segue.model.profile import Profile
from segue.model.request import Request
from segue.model.sysctls import Sysctls
from segue.model.timers import Timers
from segue.model.timing import EXACT, Timing
from segue.wire.seq import Seq
from segue.wire.tcp import ACK, RST

if TYPE_CHECKING:
    from segue.model.connection import Connection

_ISN_TICKS = 250_000  # a second: RFC 9293, 3.4.1 counts one each four microseconds
_MASK = 0xFFFFFFFF


class Chance(NamedTuple):
    """Numbers that cannot be guessed without the secret, the same for the same flow."""

    isn: int
    stamp_offset: int
    hash: int


@dataclass(slots=True, eq=False)
class Net:
    """All of one model.  ``flows`` has every half-open request and every connection by its flow."""

    profile: Profile
    sysctls: Sysctls
    secret: bytes
    mtu: int = 1500
    timing: Timing = EXACT
    now: float = 0.0
    flows: dict[bytes, Request | Connection] = field(default_factory=dict)
    groups: dict[Endpoint, Group] = field(default_factory=dict)  # of those with a live listener
    counts: Counter[str] = field(default_factory=Counter)
    out: list[bytes] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    timers: Timers[Request | Connection] = field(default_factory=Timers)
    orphans: int = 0  # connections that no program has, and that do not only wait
    time_waits: int = 0  # those that only wait
    cookies: count[int] = field(default_factory=lambda: count(1))
    identifications: count[int] = field(default_factory=lambda: count(1))

    def after(self, seconds: float) -> float:
        """When a timer fires that is now set to so many seconds."""
        return self.timing.at(self.now, seconds)

    def chance(self, flow: bytes) -> Chance:
        """Of one flow: where its numbers begin, and which way it hashes."""
        digest = blake2s(flow, key=self.secret, digest_size=12).digest()
        number = int.from_bytes(digest, "big")
        return Chance(number >> 64, number >> 32 & _MASK, number & _MASK)

    def isn(self, chance: Chance) -> Seq:
        """An initial sequence number (RFC 6528)."""
        return Seq((chance.isn + int(self.now * _ISN_TICKS)) & _MASK)

    def stamp(self, offset: int) -> int:
        """The TSval of this instant for a connection with such an offset."""
        return self.stamp_at(self.now, offset)

    @staticmethod
    def stamp_at(when: float, offset: int) -> int:
        """The same of another instant."""
        return (int(when / STAMP_TICK) + offset) & _MASK

    def reset(self, arrival: Arrival) -> None:
        """Answer a segment without a connection (tcp_v4_send_reset); a RST gets no answer."""
        if arrival.flags & RST:
            return
        if arrival.flags & ACK:
            packet = arrival.path.packet(arrival.ack, 0, RST, 0)
        else:
            packet = arrival.path.packet(0, arrival.end, RST | ACK, 0)
        self.counts["OutRsts"] += 1
        self.out.append(packet)

    def send(
        self, path: Path, seq: int, ack: int, flags: int, window: int,
        said: bytes = b"", payload: bytes = b"", tos: int = 0,
    ) -> None:  # fmt: skip
        """A segment of a connection, for the next ``take``."""
        self.out.append(
            path.packet(seq, ack, flags, window, said, payload, next(self.identifications), tos)
        )
