"""What rescue must know of the workers that it looks after, whoever started them.

The workers of a ``segue run`` (``run/watched.py``), or listeners that somebody else's servers
opened (``attach/watched.py``).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from segue.supervisor.lifecycle.instance import HeldListener
from segue.supervisor.lifecycle.plan import FOREVER
from segue.supervisor.loop import HasFileno


class WatchedWorker(NamedTuple):
    """Whoever accepts at these listeners, at one moment."""

    id: int
    name: str  # for sentences
    listeners: tuple[HeldListener, ...]
    shares: bool  # it has a share of new connections, or has one again when it is awake


class Depth(NamedTuple):
    """What waits in an accept queue, and the limit given to listen(2); zeros when it is gone."""

    queue: int = 0
    backlog: int = 0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Times in seconds."""

    patience: float | None  # without an accept a worker is stalled after so long; None for never
    every: float = FOREVER  # between two looks while somebody waits; FOREVER for no looks
    stall_kill: float = 0.0  # stalled for so long a worker is replaced; 0 for never


class Watcher(Protocol):
    """The loop in which rescue runs, as far as rescue uses it."""

    @property
    def now(self) -> Callable[[], float]:
        """Seconds of a clock that does not go back."""

    def watch(self, file: HasFileno, handler: Callable[[], None]) -> None:
        """Call this whenever the file can be read."""

    def unwatch(self, file: HasFileno) -> None:
        """Call nothing for this file any more."""


class Watched(Protocol):
    """Every method may raise KernelError or OSError: what is refused now is tried again."""

    def watched(self) -> list[WatchedWorker]:
        """Whose queues are to be looked at; the stalls of others are forgotten."""

    def worker(self, number: int) -> WatchedWorker:
        """A worker that was watched a moment ago, as it is now."""

    def processes(self, number: int) -> tuple[int, ...]:
        """The processes that could accept at this worker's listeners."""

    def open(self, listener: HeldListener) -> socket.socket | None:
        """A descriptor of this listener, the caller's to close; None when it is gone."""

    def look(self) -> None:
        """What ``depth`` says from here on is as old as this call, or younger."""

    def depth(self, listener: HeldListener) -> Depth:
        """How many connections wait there."""

    def shared(self, bind: int) -> Collection[int]:
        """The slots at this address that have a share."""
