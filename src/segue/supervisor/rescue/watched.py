"""What rescue must know of the workers that it watches, whether Segue started them or not.

These are the workers of a ``segue run`` (``run/watched.py``), or listeners of servers that Segue
did not start (``attach/watched.py``).
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
    """The worker that accepts at these listeners, at one moment."""

    id: int
    name: str  # for sentences
    listeners: tuple[HeldListener, ...]
    shares: bool  # it has a share of new connections, or gets it back when it is awake


class Depth(NamedTuple):
    """The length of an accept queue, and the limit given to listen(2).  Zeros if it is gone."""

    queue: int = 0
    backlog: int = 0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Times in seconds."""

    patience: float | None  # a worker is stalled after so long without an accept; None means never
    every: float = FOREVER  # between two looks while clients wait; FOREVER means no looks
    stall_kill: float = 0.0  # a worker that stalls for so long is replaced; 0 means never


class Watcher(Protocol):
    """The part of the loop that rescue uses."""

    @property
    def now(self) -> Callable[[], float]:
        """Seconds of a clock that does not go back."""

    def watch(self, file: HasFileno, handler: Callable[[], None]) -> None:
        """Call this whenever the file can be read."""

    def unwatch(self, file: HasFileno) -> None:
        """Stop calling the handler of this file."""


class Watched(Protocol):
    """The workers that rescue watches.

    Every method may raise KernelError or OSError.  Rescue then tries again later.
    """

    def watched(self) -> list[WatchedWorker]:
        """The workers to look at.  The stalls of all others are forgotten."""

    def worker(self, number: int) -> WatchedWorker:
        """A worker that was watched a moment ago, as it is now."""

    def processes(self, number: int) -> tuple[int, ...]:
        """The processes that could accept at this worker's listeners."""

    def open(self, listener: HeldListener) -> socket.socket | None:
        """A descriptor of this listener, which the caller closes; None if it is gone."""

    def look(self) -> None:
        """Read the queues: ``depth`` is from now on at least as recent as this call."""

    def depth(self, listener: HeldListener) -> Depth:
        """How many connections wait there."""

    def shared(self, bind: int) -> Collection[int]:
        """The slots at this address that have a share."""
