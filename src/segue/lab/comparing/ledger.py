"""What became of every connection, from what its client and its servers have seen.

Pure.  A client sees that it was reset and not where its connection was; the servers know which they
have accepted, and which were half-open when a listener closed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from segue.lab.comparing.settings import SETTLED_S, Settings


class How(Enum):
    """How a connection ended, as its client saw it."""

    ANSWERED = "answered"  # every request; the client ended it
    LET_GO = "let go"  # by the server, between two requests
    RESET = "reset"  # or ended, while an answer was owed
    REFUSED = "refused"  # reset before the handshake was over for the client
    GAVE_UP = "gave up"  # no answer within the patience


class Fate(Enum):
    """What became of a connection: each has exactly one."""

    ANSWERED = "answered"
    LET_GO = "let go"
    HALF_OPEN = "lost half-open"
    QUEUED = "lost queued"
    ACCEPTED = "lost accepted"
    REFUSED = "refused"
    GAVE_UP = "gave up"


@dataclass(frozen=True, slots=True)
class End:
    """One connection of a client, by its port; times are since the first client.

    ``first_s`` is when its first answer came, None when none did; ``again`` that its client had
    to connect again after another one.
    """

    port: int
    begun_s: float
    first_s: float | None
    how: How
    kept: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """What the servers have seen; times are since the restart began, None for never."""

    accepted: frozenset[int]
    half_open: frozenset[int]  # when listeners were closed
    gone_s: float | None  # the last of the old workers has no listener any more
    old_s: float | None  # the last answer by an old worker


@dataclass(frozen=True, slots=True)
class Outcome:
    """One restart.  ``latencies_ms`` are of those that came when it mattered, in no order."""

    fates: Counter[Fate]
    reconnected: int
    gone_s: float | None
    old_s: float | None
    latencies_ms: tuple[float, ...]

    @property
    def total(self) -> int:
        """Connections."""
        return self.fates.total()


def fate(end: End, served: Served) -> Fate:
    """Of one connection."""
    match end.how:
        case How.RESET if end.port in served.accepted:
            return Fate.ACCEPTED
        case How.RESET if end.port in served.half_open:
            return Fate.HALF_OPEN
        case How.RESET:
            return Fate.QUEUED
        case _:
            return Fate[end.how.name]


def outcome(settings: Settings, ends: Sequence[End], served: Served) -> Outcome:
    """Of all of them."""
    first = settings.restart_s - settings.rtt_s
    mattered = [
        (one.first_s - one.begun_s) * 1000
        for one in ends
        if one.first_s is not None
        and not one.kept
        and first <= one.begun_s < settings.restart_s + SETTLED_S
    ]
    return Outcome(
        Counter(fate(one, served) for one in ends),
        sum(one.again for one in ends),
        served.gone_s,
        served.old_s,
        tuple(mattered),
    )


def at(share: float, values: Collection[float]) -> float | None:
    """The value that so large a share of them does not exceed; None of none."""
    there = sorted(values)
    return there[min(len(there) - 1, int(share * len(there)))] if there else None
