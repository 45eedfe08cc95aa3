"""When each attempt is due, and when waiting for it ends.  Pure: the time is an argument.

A pace says what is asked for; ``begin`` makes a schedule of it.  In the open loop an attempt is due
at its time whether or not earlier ones came back, and latency counts from then: a server that
stalls cannot hide the requests it kept from being sent (coordinated omission).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil, inf, isfinite
from typing import Generic, Protocol, TypeVar

from segue.errors import UsageError

T = TypeVar("T")
# More would measure how servers buffer; none is known to read so many ahead.
MOST_AT_ONCE = 1000


class Timeouts(Generic[T]):
    """Things that wait, all equally long, so the first to come is the first to expire."""

    __slots__ = ("_since", "length_s")

    def __init__(self, length_s: float) -> None:
        self.length_s = length_s
        self._since: OrderedDict[T, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._since)

    def add(self, one: T, now: float) -> None:
        """It waits from now on."""
        self._since[one] = now

    def discard(self, one: T) -> None:
        """It waits no more; nothing happens when it did not."""
        self._since.pop(one, None)

    def deadline(self) -> float:
        """When the next one expires; infinity when nothing waits."""
        for since in self._since.values():
            return since + self.length_s
        return inf

    def expired(self, now: float) -> list[T]:
        """Those whose time is over, oldest first; they wait no more."""
        over: list[T] = []
        while self.deadline() <= now:
            over.append(self._since.popitem(last=False)[0])
        return over

    def oldest(self) -> T | None:
        """Take out the one that has waited longest."""
        return self._since.popitem(last=False)[0] if self._since else None


class Schedule(Protocol):
    """Hands out attempts.  ``next`` is when to take one, infinity when there is none."""

    next: float

    def take(self) -> tuple[float, int, int]:
        """When it was due, its lane (the connection it may reuse), how many requests at once.

        It was due before ``next`` when its lane was still busy then.
        """

    def done(self, lane: int, now: float, *, ok: bool) -> None:
        """What the lane had out is over."""

    def stop(self, now: float) -> int:
        """Hand out nothing more; how many were due by now and not taken."""


@dataclass(slots=True)
class _Limits:
    """What ends a run: the first of a time, a number of attempts, and being told."""

    until: float
    left: float

    def allow(self, due: float) -> float:
        return due if due < self.until and self.left > 0 else inf


class _Open:
    __slots__ = ("_begin", "_limits", "_number", "_rate", "next")

    def __init__(self, rate: float, begin: float, limits: _Limits) -> None:
        self._rate, self._begin, self._limits, self._number = rate, begin, limits, 0
        self.next = limits.allow(begin)

    def take(self) -> tuple[float, int, int]:
        due = self.next
        self._number += 1
        self._limits.left -= 1
        # From the number, not by adding up: ten million additions would drift.
        self.next = self._limits.allow(self._due(self._number))
        return due, -1, 1

    def _due(self, number: int) -> float:
        return self._begin + number / self._rate

    def done(self, lane: int, now: float, *, ok: bool) -> None:
        pass

    def stop(self, now: float) -> int:
        # By the very times that would be handed out: a formula is one off now and then.
        ahead = range(self._number, ceil((now - self._begin) * self._rate) + 2)
        due = min(
            bisect_right(ahead, now, key=self._due),
            bisect_left(ahead, self._limits.until, key=self._due),
        )
        missed = min(due, self._limits.left)
        self._limits.left = 0
        self.next = inf
        return int(missed)


class _Lanes:
    """Lanes that wait for what they have out: the closed loop, and kept connections."""

    __slots__ = ("_due", "_free", "_interval", "_limits", "_pause", "_requests", "next")

    def __init__(
        self,
        due: list[float],
        interval: float | None,
        pause: float,
        limits: _Limits,
        requests: int = 1,
    ) -> None:
        self._due = due
        self._free = sorted((begin, lane) for lane, begin in enumerate(due))
        self._interval, self._pause, self._limits = interval, pause, limits
        self._requests = requests
        self._peek()

    def _peek(self) -> None:
        self.next = self._limits.allow(self._free[0][0]) if self._free else inf

    def take(self) -> tuple[float, int, int]:
        _, lane = heappop(self._free)
        requests = int(min(self._requests, self._limits.left))
        self._limits.left -= requests
        self._peek()
        return self._due[lane], lane, requests

    def done(self, lane: int, now: float, *, ok: bool) -> None:
        if self._interval is not None:
            due = self._due[lane] + self._interval
        else:
            due = now if ok else now + self._pause
        self._due[lane] = due
        heappush(self._free, (max(due, now), lane))
        self._peek()

    def stop(self, now: float) -> int:
        last = min(now, self._limits.until)
        due = sum(1 for begin, _ in self._free if begin <= last)
        missed = min(due * self._requests, self._limits.left)
        self._limits.left = 0
        self.next = inf
        return int(missed)


class Pace(Protocol):
    """What is asked for."""

    @property
    def connections(self) -> int:
        """How many connections it needs at once; 0 when the answers decide that."""

    @property
    def requests(self) -> int:
        """How many go out at once on a connection."""

    def begin(self, now: float, duration_s: float | None, count: int | None) -> Schedule:
        """The schedule from now on, until the first limit that is not None."""


def _limits(now: float, duration_s: float | None, count: int | None) -> _Limits:
    return _Limits(
        until=inf if duration_s is None else now + duration_s,
        left=inf if count is None else count,
    )


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """``rate`` connections a second, each due at its time.  Raises UsageError unless above 0."""

    rate: float

    connections = 0
    requests = 1

    def __post_init__(self) -> None:
        if not (self.rate > 0 and isfinite(self.rate)):
            raise UsageError(f"a rate must be above 0 connections a second (got {self.rate})")

    def begin(self, now: float, duration_s: float | None, count: int | None) -> Schedule:
        """See Pace."""
        return _Open(self.rate, now, _limits(now, duration_s, count))

    def __str__(self) -> str:
        return f"{self.rate:g} connections/s"


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """``concurrency`` clients, each opening its next connection when the last one is over.

    After an attempt that got no answer a client waits ``pause_s``: a refused connection costs
    nothing, so without a pause an outage would count as many losses as the machine can make.
    """

    concurrency: int
    pause_s: float = 0.01

    requests = 1

    def __post_init__(self) -> None:
        if self.concurrency < 1 or not 0 <= self.pause_s < inf:
            raise UsageError(
                f"there must be at least 1 client (got {self.concurrency}), and 0 or more seconds"
                f" between its requests (got {self.pause_s})"
            )

    @property
    def connections(self) -> int:
        """See Pace."""
        return self.concurrency

    def begin(self, now: float, duration_s: float | None, count: int | None) -> Schedule:
        """See Pace."""
        lanes = [now] * self.concurrency
        return _Lanes(lanes, None, self.pause_s, _limits(now, duration_s, count))

    def __str__(self) -> str:
        return f"{self.concurrency} clients"


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """``kept`` connections, a request each every ``interval_s``, the first ones spread evenly.

    A request that is due while its connection still waits for an answer is sent right after it,
    and its latency counts from when it was due.  With more than one of ``requests`` so many go out
    at once instead of one, without waiting for one another's answers (pipelining).
    """

    kept: int
    interval_s: float
    requests: int = 1

    def __post_init__(self) -> None:
        if self.kept < 1 or not 0 < self.interval_s < inf:
            raise UsageError(
                f"there must be at least 1 connection (got {self.kept}), and 0 or more seconds"
                f" between its requests (got {self.interval_s})"
            )
        if not 1 <= self.requests <= MOST_AT_ONCE:
            raise UsageError(
                f"requests at once must be between 1 and {MOST_AT_ONCE} (got {self.requests})"
            )

    @property
    def connections(self) -> int:
        """See Pace."""
        return self.kept

    def begin(self, now: float, duration_s: float | None, count: int | None) -> Schedule:
        """See Pace."""
        lanes = [now + self.interval_s * lane / self.kept for lane in range(self.kept)]
        limits = _limits(now, duration_s, count)
        return _Lanes(lanes, self.interval_s, 0, limits, self.requests)

    def __str__(self) -> str:
        each = "a request" if self.requests == 1 else f"{self.requests} requests at once"
        return f"{self.kept} kept connections, {each} each every {self.interval_s:g} s"
