"""The steps that a plan is made of, as values: ``run/perform.py`` performs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Weights: TypeAlias = tuple[tuple[int, float], ...]  # (worker id, weight) by id


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start one worker of this generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class Renew:
    """Begin the restart that waits: it is its turn."""


@dataclass(frozen=True, slots=True)
class Flip:
    """The new generation is ready: give it its part of new connections, by these weights."""

    generation: int
    weights: Weights


@dataclass(frozen=True, slots=True)
class Advance:
    """One more step of a restart is ready: these newcomers take the places of older workers."""

    weights: Weights


@dataclass(frozen=True, slots=True)
class Share:
    """Give new connections only to these workers, by these weights."""

    weights: Weights


@dataclass(frozen=True, slots=True)
class Rescue:
    """Move the connections that wait behind this stalled worker to workers that accept."""

    worker: int


@dataclass(frozen=True, slots=True)
class Carry:
    """Carry the kept connections of this worker, which drains or stalls, to those that serve."""

    worker: int


@dataclass(frozen=True, slots=True)
class LetGo:
    """Have this worker tell clients to go: their connections are not carried."""

    worker: int


@dataclass(frozen=True, slots=True)
class Retire:
    """This finisher is ready; let it finish its queue."""

    worker: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Send the stop signal, and say why."""

    worker: int
    why: str


@dataclass(frozen=True, slots=True)
class Replace:
    """Start a successor of this worker, which loses its share when the successor is ready.

    It then drains as usual.  One that ``hangs`` is told to stop at once instead.
    """

    worker: int
    why: str
    hangs: bool = False


@dataclass(frozen=True, slots=True)
class Kill:
    """Send SIGKILL, because the time after the stop signal is over."""

    worker: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Stop the new generation, because it cannot serve.

    Nothing has changed for clients, unless the restart is one in steps: then workers of the new
    generation serve until the working one is complete again.
    """

    generation: int
    why: str
    reason: str = ""  # more of it, which was told when the worker ended


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop everything and exit with 3, because no worker can serve."""

    why: str
    reason: str = ""  # more of it, such as the last words of the worker


@dataclass(frozen=True, slots=True)
class Refuse:
    """Take no new connections from here on; what has come is finished."""


@dataclass(frozen=True, slots=True)
class End:
    """End the instance: it was told to stop, and the last worker is gone."""


Step: TypeAlias = (
    Spawn
    | Renew
    | Flip
    | Advance
    | Share
    | Rescue
    | Carry
    | LetGo
    | Retire
    | Replace
    | Stop
    | Kill
    | Abandon
    | GiveUp
    | Refuse
    | End
)
