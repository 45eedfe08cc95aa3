"""What a service is like at any instant: the figures that a forecast is made from.  Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from segue.errors import UsageError
from segue.plan.spread import Lognormal, Spread

# tcp_synack_retries of Linux is 5: 1 + 2 + 4 + 8 + 16 seconds, and the request is dropped 32 later.
LOST_ACKS = 5


@dataclass(frozen=True, slots=True)
class Load:
    """``rate`` is of the connections that arrive at the listeners which one restart replaces.

    ``round_trip`` is from a SYN-ACK to the final ACK, ``accept`` from there to accept(), ``answer``
    from there to the end of an answer.  ``kept`` connections wait between two requests for
    ``think_s`` in the mean, exponentially.  Every worker accepts nothing for ``stall_s`` of
    each ``stall_every_s``.  ``loss``: the part of packets that is lost.  ``burst``: how much the
    rate differs from restart to restart (deviation / mean).  ``careless``: the part of clients that
    send on a kept connection without a look whether the server has closed it, and do not repeat.
    ``closes_after_s``: a server that stops accepting keeps its listener for so long before it
    closes it, and what comes meanwhile is not accepted.
    ``depths``, if any, are seen depths of all accept queues together: then the queue is drawn from
    these.
    """

    rate: float
    round_trip: Spread
    accept: Spread = field(default_factory=lambda: Lognormal(0.0002, 0.6))
    answer: Spread = field(default_factory=lambda: Lognormal(0.02, 0.6))
    kept: int = 0
    think_s: float = 5.0
    workers: int = 4
    backlog: int = 4096
    stall_s: float = 0.0
    stall_every_s: float = 0.0
    loss: float = 0.0
    burst: float = 0.0
    careless: float = 0.0
    closes_after_s: float = 0.0
    depths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        wrong = [
            name
            for name, right in (
                ("a rate", 0 <= self.rate < math.inf),
                ("kept connections", self.kept >= 0),
                ("a time to think", 0 < self.think_s < math.inf),
                ("workers", self.workers >= 1),
                ("a backlog", self.backlog >= 0),
                ("a stall: shorter than its interval", self._stalls_fit),
                ("a loss: at least 0, less than half", 0 <= self.loss < 0.5),
                ("a burst: at least 0", 0 <= self.burst < math.inf),
                ("a time until a close: at least 0", 0 <= self.closes_after_s < math.inf),
                ("a part of careless clients: from 0 to 1", 0 <= self.careless <= 1),
            )
            if not right
        ]
        if wrong:
            raise UsageError(f"this cannot be {wrong[0]}")

    @property
    def _stalls_fit(self) -> bool:
        return self.stall_s == self.stall_every_s == 0 or 0 < self.stall_s < self.stall_every_s

    @property
    def busy(self) -> float:
        """The part of kept connections that wait for an answer."""
        return self.answer.mean_s / (self.answer.mean_s + self.think_s)

    @property
    def handshake_s(self) -> float:
        """The mean time that a request is half-open, lost packets included: closed form."""
        waits = sum(part * wait for part, wait in self.lanes())
        return self.round_trip.mean_s + waits

    @property
    def half_open(self) -> float:
        """How many there are at any instant, in the mean: Little's law."""
        return self.rate * self.handshake_s

    def lanes(self) -> list[tuple[float, float]]:
        """How often a handshake lost so many packets, and how long it waited for them."""
        parts = [(1 - self.loss) * self.loss**lost for lost in range(LOST_ACKS)]
        parts.append(self.loss**LOST_ACKS)
        lanes = [(part, float(2**lost - 1)) for lost, part in enumerate(parts)]
        return [one for one in lanes if one[0] > 0]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the ways wait.

    ``guard_s``: a way that guesses waits so long, and one second is when a SYN-ACK that was lost is
    sent again.  ``limit_s``: no worker is waited for longer; the default is that of segue run
    --drain-timeout.  ``look_s``: between two looks at half-open requests.  ``beside``: by a way
    that steers nothing, the part of connections that the successors get by the kernel's hash before
    the old listeners go.  They must listen by then, and with as many successors it is half, once
    both have been there for as long as a handshake.
    """

    guard_s: float = 1.0
    limit_s: float = 30.0
    look_s: float = 0.005
    beside: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.guard_s <= self.limit_s < math.inf or self.look_s < 0:
            raise UsageError("a guard time is at least 0 and at most the limit")
        if not 0 <= self.beside < 1:
            raise UsageError("what successors get beside the old is a part from 0 to less than 1")
