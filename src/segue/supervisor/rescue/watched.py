"""Whose listeners rescue looks after: what it must know of them, and what it may have done.

The workers of a ``segue run`` (``crew_ward``), or listeners that somebody else's servers opened.
A *worker* is whoever accepts at one or more listeners; what it *holds* names those.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from segue.supervisor.front import Front
from segue.supervisor.lifecycle.instance import HeldListener, Worker


class Depth(NamedTuple):
    """What waits in an accept queue, and the limit given to listen(2)."""

    queue: int
    backlog: int


class Ward(Protocol):
    """Every method may raise KernelError or OSError: what is refused now is tried again."""

    @property
    def patience(self) -> float:
        """Seconds without an accept after which a worker counts as stalled; 0 for never."""

    @property
    def every(self) -> float:
        """Seconds between two looks while somebody waits; ``plan.FOREVER`` for no looks."""

    @property
    def stall_kill(self) -> float:
        """Seconds of stalls after which a worker is replaced; 0 for never."""

    @property
    def fronts(self) -> Sequence[Front]:
        """Addresses, by the number that a hold has."""

    def now(self) -> float:
        """Seconds of a clock that does not go back."""

    def say(self, text: str) -> None:
        """To the log."""

    def watched(self) -> list[Worker]:
        """Whose queues are to be looked at; the stalls of others are forgotten."""

    def worker(self, number: int) -> Worker:
        """One that was watched a moment ago."""

    def processes(self, worker: Worker) -> tuple[int, ...]:
        """The processes that could accept at its listeners."""

    def open(self, hold: HeldListener) -> socket.socket | None:
        """A descriptor of this listener, the caller's to close; None when it is gone."""

    def look(self) -> None:
        """What ``depth`` says from here on is as old as this call, or younger."""

    def depth(self, hold: HeldListener) -> Depth | None:
        """How many wait there; None when it is gone."""

    def saw(self, now: float, seconds: float, depths: Mapping[int, int]) -> None:
        """Hear of a look: how many wait at each worker, by its number, none where nothing is said.

        ``seconds`` are those since the look before.
        """

    def shared(self, bind: int) -> Collection[int]:
        """The slots at this address that have a share."""

    def move(self, worker: Worker, holds: tuple[HeldListener, ...], own: int) -> int:
        """Cycle these listeners; how many clients were moved, ``own`` being knocks of ours."""

    def watch(self, file: Any, handler: Callable[[], None]) -> None:
        """Call this whenever the file can be read."""

    def unwatch(self, file: Any) -> None:
        """No longer."""
