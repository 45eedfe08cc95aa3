"""One connection of each draining worker that was in use when all of them were looked at.

While it is, its worker is not quiet, so nothing else need be looked at.  These few are looked up
again and again, within the wait of the loop (``loop.Looks``): there is a round of it when one has
fallen, since that is when the plan may have something to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from segue.group import Connection
from segue.observe.snapshot import Observer
from segue.supervisor.allowance import Allowance
from segue.supervisor.workers.tally import seconds_in_use

# Soon enough that a restart of a quick server takes tens of milliseconds.
PACE = 0.02
# Of the time for which a witness has stood already: so much later it is noticed that it was closed.
_LATER = 0.05
_PART, _SAVED = 1 / 200, 0.03  # of a core, and seconds of the processor at once
_TOGETHER = 2.0  # times what a look at everything takes: another one may fall so much later


@dataclass(slots=True)
class Witnesses:
    """The witnesses by worker.  As in Looks."""

    observer: Observer
    idle_grace: float
    clock: Callable[[], float]
    spent: Callable[[], float]
    held: dict[int, Connection] = field(default_factory=dict)
    found: bool = False  # one fell at the last look
    doing: str = "looking at connections in use"
    _since: float = 0.0  # when all connections were looked at
    _took: float = 0.0  # and how long that took
    _looked: float = 0.0
    _falls: float = math.inf  # when the next one will, if nothing moves
    _soon: float = 0.0  # when the last of those that may fall soon will
    _fell: float = math.inf  # when the first one did
    _allowance: Allowance = field(default_factory=lambda: Allowance.full(_PART, _SAVED, 0.0))

    def begin(self, held: Mapping[int, Connection], since: float, took: float) -> None:
        """Everything has been looked at: from now on these are the witnesses."""
        self.held, self._since, self._took = dict(held), since, took
        self._falls, self._soon, self._fell = math.inf, 0.0, math.inf

    def forget(self, worker: int) -> None:
        """Its connections have to be looked at."""
        self.held.pop(worker, None)
        self._fell = min(self._fell, self.clock())

    @property
    def together(self) -> float:
        """When to look at everything, where one has fallen: not just before another one does, for
        which one more look would be needed.
        """
        return min(self._soon, self._fell + _TOGETHER * self._took)

    @property
    def due(self) -> float:
        """As in Looks."""
        if not self.held:
            return math.inf
        usual = self._looked + _LATER * (self._looked - self._since)
        earliest = max(self._since, self._looked) + PACE
        return max(min(usual, self._falls), earliest, self._allowance.due)

    def prepare(self) -> None:
        """As in Looks: there is nothing to register."""

    def look(self) -> None:
        """As in Looks.  Raises KernelError."""
        self._looked, before, self.found = self.clock(), self.spent(), False
        self._falls = math.inf
        held = list(self.held.items())
        again = self.observer.again([connection for _, connection in held])
        for (worker, connection), seen in zip(held, again, strict=True):
            there = seen is not None and seen.inode == connection.inode
            left = seconds_in_use(seen, self.idle_grace) if seen and there else 0.0
            if not left:
                self.forget(worker)
                self.found = True
                continue
            falls = self.clock() + left
            self._falls = min(self._falls, falls)
            if left <= _TOGETHER * self._took:
                self._soon = max(self._soon, falls)
        self._allowance.spend(self.spent() - before, self.clock())
