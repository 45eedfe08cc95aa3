"""What a link does to packets, as a decision: which of them is due when, and which never.

Pure: time and chance are arguments, and time never goes back.  ``segue.lab.cable``
brings the packets.  Left out: bandwidth, queues that overflow, corruption.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import isfinite

from segue.errors import UsageError

Chance = Callable[[], float]
"""From 0 to 1, without 1: random.Random(seed).random for what can be repeated."""

Predicate = Callable[[bytes], bool]
"""Judges a packet, from the first byte of its IP header; may remember those before."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a packet meets on its way.

    It takes ``delay_s`` and up to ``jitter_s`` more, evenly spread, so that with jitter packets
    overtake one another, as they do where a network has several ways.  ``loss`` is the part that
    never arrives, each packet for itself.  Raises UsageError for what cannot be.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("delay", self.delay_s), ("jitter", self.jitter_s)):
            if not (isfinite(value) and value >= 0):
                raise UsageError(f"a {name} must be 0 or more seconds (got {value})")
        if not 0 <= self.loss <= 1:
            raise UsageError(f"a loss must be between 0 and 1 (got {self.loss})")


@dataclass(slots=True, eq=False)
class Hold:
    """Packets kept back by one rule; over once they were released or discarded."""

    matches: Predicate
    over: bool = False
    waiting: list[tuple[float, int, bytes]] = field(default_factory=list)

    @property
    def packets(self) -> list[bytes]:
        """Those that wait, in the order in which they were sent."""
        return [packet for _, _, packet in self.waiting]


@dataclass(frozen=True, slots=True)
class PacketCounts:
    """What became of the packets; ``sent`` is the sum of the others."""

    sent: int
    lost: int
    discarded: int
    arrived: int
    held: int
    under_way: int


class Direction:
    """One direction of a link.

    The same chance and the same number of packets have the same fates: each packet asks once for
    jitter and once for loss, where there are any, whatever becomes of it.
    """

    def __init__(self, conditions: Conditions, chance: Chance) -> None:
        """The conditions may be replaced at any time, for what is sent from then on."""
        self.conditions = conditions
        self._chance = chance
        self._serial = count()
        self._under_way: list[tuple[float, int, bytes]] = []
        self._holds: list[Hold] = []
        self._sent = self._lost = self._discarded = self._arrived = 0

    def send(self, now: float, packet: bytes) -> None:
        """A packet sets out.  One that a hold matches is never lost; the oldest hold takes it."""
        self._sent += 1
        meets = self.conditions
        due = now + meets.delay_s
        if meets.jitter_s:
            due += meets.jitter_s * self._chance()
        lost = meets.loss and self._chance() < meets.loss
        for hold in self._holds:
            if hold.matches(packet):
                hold.waiting.append((due, next(self._serial), packet))
                return
        if lost:
            self._lost += 1
        else:
            heappush(self._under_way, (due, next(self._serial), packet))

    def take(self, now: float) -> list[bytes]:
        """What arrives up to now, in the order of arrival; what is due at once, as it was sent."""
        arriving = []
        while self._under_way and self._under_way[0][0] <= now:
            arriving.append(heappop(self._under_way)[2])
        self._arrived += len(arriving)
        return arriving

    def deadline(self) -> float | None:
        """When ``take`` next has something; None while nothing is under way."""
        return self._under_way[0][0] if self._under_way else None

    def hold(self, matches: Predicate) -> Hold:
        """From now on keep back every packet that matches."""
        made = Hold(matches)
        self._holds.append(made)
        return made

    def release(self, hold: Hold, now: float) -> None:
        """End a hold: what it kept arrives now, unless its delay is not over yet."""
        for due, serial, packet in self._end(hold):
            heappush(self._under_way, (max(due, now), serial, packet))

    def discard(self, hold: Hold) -> None:
        """End a hold: what it kept never arrives."""
        self._discarded += len(self._end(hold))

    def counts(self) -> PacketCounts:
        """Of all packets since the beginning."""
        return PacketCounts(
            sent=self._sent,
            lost=self._lost,
            discarded=self._discarded,
            arrived=self._arrived,
            held=sum(len(hold.waiting) for hold in self._holds),
            under_way=len(self._under_way),
        )

    def _end(self, hold: Hold) -> list[tuple[float, int, bytes]]:
        if hold.over:
            return []
        if hold not in self._holds:
            raise UsageError("this hold is another pipe's")
        self._holds.remove(hold)
        hold.over = True
        kept, hold.waiting = hold.waiting, []
        return kept


@dataclass(frozen=True, slots=True)
class Link:
    """Two pipes: ``forth`` from the first end to the second, and ``back``."""

    forth: Direction
    back: Direction

    def deadline(self) -> float | None:
        """When either pipe next has something; None while nothing is under way."""
        known = [due for pipe in (self.forth, self.back) if (due := pipe.deadline()) is not None]
        return min(known, default=None)
