"""``--live-http``: serving workers are asked now and then, for hangs in which they still accept.

A question goes to one listener, as in readiness: clients go elsewhere.  One that waits in a queue
is our own and no client, so ``waiting`` says where there is one.  It stays until it is accepted,
and until then no other one is sent.  ``lifecycle.health`` decides what failures mean.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from segue.supervisor.front import Front
from segue.supervisor.lifecycle.health import Failing
from segue.supervisor.lifecycle.instance import HeldListener, Instance, Worker
from segue.supervisor.lifecycle.plan import FOREVER
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.question import Question
from segue.supervisor.workers.readiness import Knock

# Questions that are open at a time, a quarter of the pins that a program has.
_MOST_OPEN = 16
# Seconds between two looks at open questions: soon at first, since most are answered at once.
_QUICK, _SLOW, _NEW = 0.02, 0.2, 0.2
_PARTS = 4  # of a turn: workers are not all asked at once, nor each by itself, which costs more


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two questions to a worker, and until an answer is late."""

    every: float
    timeout: float


@dataclass(slots=True)
class _Round:
    """One question to each listener of a worker."""

    begun: float
    open: dict[HeldListener, Knock] = field(default_factory=dict)
    late: bool = False  # failed; what is open was not accepted yet


class Liveness:
    """The questions to one instance's workers; owns them."""

    def __init__(
        self,
        instance: Instance,
        fronts: Sequence[Front],
        question: Question | None,
        pace: Pace,
        say: Callable[[str], None],
        ask: Callable[[HeldListener, float], Knock] | None = None,
    ) -> None:
        self.failing: dict[int, Failing] = {}  # by worker
        self._instance, self._fronts, self._question = instance, fronts, question
        self._pace, self._say = pace, say
        self._send = ask or (lambda at, now: Knock(fronts[at.bind], at.slot, question, now))
        self._next: dict[int, float] = {}  # by worker, when to ask
        self._rounds: dict[int, _Round] = {}  # by worker
        self._looked = 0.0

    @property
    def due(self) -> float:
        """When to call ``step`` next."""
        found = min(self._next.values(), default=FOREVER)
        if self._rounds:
            youngest = max(one.begun for one in self._rounds.values())
            found = min(found, self._looked + (_QUICK if self._looked < youngest + _NEW else _SLOW))
        return found

    def step(self, now: float, stalled: Collection[int]) -> None:
        """Look at what is open, and ask whoever is due.  ``stalled`` are asked nothing: they fail.

        Without a question, nothing.  Raises KernelError or OSError if one cannot be sent.
        """
        if self._question is None:
            return
        self._looked = now
        serving = {one.id: one for one in self._instance.living if one.stage is Stage.SERVING}
        for gone in (self._next.keys() | self._rounds.keys()) - serving.keys():
            self.withdraw(gone)
            self._next.pop(gone, None)
            self.failing.pop(gone, None)
        for worker in serving.values():
            self._follow(worker, now, stalled=worker.id in stalled)
        for worker in serving.values():
            self._ask(worker, now, stalled=worker.id in stalled)

    def waiting(self, listener: HeldListener) -> int:
        """How many questions of ours wait in this queue."""
        for one in self._rounds.values():
            knock = one.open.get(listener)
            if knock is not None and not knock.reached:
                return 1
        return 0

    def withdraw(self, worker: int) -> int:
        """Hang up; how many questions this worker had not accepted."""
        found = self._rounds.pop(worker, None)
        if found is None:
            return 0
        for knock in found.open.values():
            knock.close()
        return sum(not one.reached for one in found.open.values())

    def close(self) -> None:
        """Hang up on everybody."""
        for worker in list(self._rounds):
            self.withdraw(worker)

    def _follow(self, worker: Worker, now: float, *, stalled: bool) -> None:
        """Look at what is open."""
        found = self._rounds.get(worker.id)
        if found is None:
            return
        if stalled:
            # What waits there is moved, and another worker would answer.
            self.withdraw(worker.id)
            self._failed(worker, "it accepts nothing", hangs=True)
            return
        for at, knock in list(found.open.items()):
            good = knock.step(now)
            if knock.failed and not found.late:
                self.withdraw(worker.id)
                self._failed(worker, knock.failed)
                return
            if good or knock.failed or (found.late and knock.reached):
                knock.close()
                del found.open[at]
        if not found.open:
            del self._rounds[worker.id]
            if not found.late:
                self._answered(worker)
        elif not found.late and now >= found.begun + self._pace.timeout:
            self._late(worker, found)

    def _late(self, worker: Worker, found: _Round) -> None:
        found.late = True
        for at, knock in list(found.open.items()):
            if knock.reached:
                knock.close()
                del found.open[at]
        what, limit = self._question, self._pace.timeout
        if found.open:
            self._failed(worker, f"{what} was not accepted within {limit:g} s", hangs=True)
        else:
            self._failed(worker, f"{what} was not answered within {limit:g} s")
            del self._rounds[worker.id]

    def _ask(self, worker: Worker, now: float, *, stalled: bool) -> None:
        """Begin a round, if it is time."""
        every = self._pace.every
        due = self._next.setdefault(worker.id, now + every * (worker.id % _PARTS) / _PARTS)
        crowd = sum(len(one.open) for one in self._rounds.values()) >= _MOST_OPEN
        if now < due or crowd:
            return
        self._next[worker.id] = now + every
        if stalled:
            self._failed(worker, "it accepts nothing", hangs=True)
        elif worker.id in self._rounds:
            found = self._rounds[worker.id]
            waited = f"has not been accepted for {now - found.begun:.0f} s"
            self._failed(worker, f"{self._question} {waited}", hangs=True)
        else:
            made = self._rounds[worker.id] = _Round(now)
            for at in worker.listeners:
                made.open[at] = knock = self._send(at, now)
                self._fronts[at.bind].ours[at.slot] += 1
                knock.step(now)  # on this machine there is a connection at once

    def _failed(self, worker: Worker, why: str, *, hangs: bool = False) -> None:
        before = self.failing.get(worker.id)
        self.failing[worker.id] = Failing(1 + (before.times if before else 0), why, hangs)
        if before is None:
            self._say(f"{worker.name}: {why}")

    def _answered(self, worker: Worker) -> None:
        before = self.failing.pop(worker.id, None)
        if before is not None:
            self._say(f"{worker.name}: {self._question} is answered well again")
