"""Looks for workers that accept nothing while clients wait, although no other worker is awake.

They are about a second apart and use the same facts as rescue, so they work with every engine, with
a single worker and without rescue.  ``observe.hang`` decides what they mean, and ``lifecycle.plan``
what to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from segue.linux import proc
from segue.linux.schedstat import Scheduled
from segue.observe.hang import Sight, Silence, follow
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.health import Hang
from segue.supervisor.lifecycle.instance import HeldListener
from segue.supervisor.lifecycle.plan import FOREVER
from segue.supervisor.rescue.watched import Watched, WatchedWorker

# Seconds between two looks, and how long a worker must accept nothing to be worth a word in status.
EVERY = 1.0
# Seconds until the log says so, and until it says so of the same worker again.
_SAID, _SAY_AGAIN = 10.0, 60.0
# A look that takes long is made again after so many times that, whatever there is to see.
_COST = 20
_FASTER = 4  # looks within the limit


class Owned(Watched, Protocol):
    """The workers of ``Watched``, of which we can see what their processes have open."""

    def sockets(self, number: int) -> frozenset[int] | None:
        """The inodes of this worker's sockets; None if not all of them can be seen."""


@dataclass(slots=True)
class _Told:
    at: float
    over: bool = False


class Hangs:
    """The silences of one instance's workers, by the cookie of the listener."""

    def __init__(
        self, watched: Owned, fronts: Sequence[Front], limit: float, say: Callable[[str], None]
    ) -> None:
        self.hangs: dict[int, Hang] = {}  # by worker
        self._watched, self._fronts, self._say = watched, fronts, say
        self._every = min(EVERY, limit / _FASTER) if limit else EVERY
        self._next = 0.0
        self._silences: dict[int, Silence] = {}
        self._told: dict[int, _Told] = {}  # by worker

    @property
    def due(self) -> float:
        """When to call ``step`` next; FOREVER if the usual time is soon enough."""
        return self._next if self._silences or self._every < EVERY else FOREVER

    def step(
        self,
        begun: float,
        stalled: Collection[int],
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        """Look, if it is time.  ``stalled`` are those that rescue looks after.

        ``spent`` is processor time.  Raises KernelError or OSError.
        """
        before_it = spent()
        if begun < self._next:
            return
        self._next = begun + self._every  # also when something is refused
        workers = [one for one in self._watched.watched() if one.shares and one.id not in stalled]
        self._watched.look()
        found: dict[int, Silence] = {}
        hangs: dict[int, Hang] = {}
        for worker in workers:
            silences = {
                at.cookie: follow(self._silences.get(at.cookie), sight)
                for at in worker.listeners
                if (sight := self._sight(worker, at, begun))
            }
            found |= silences
            hang = self._hang(worker, list(silences.values()), begun)
            if hang:
                hangs[worker.id] = hang
        self._silences, self.hangs = found, hangs
        for worker in workers:
            self._tell(worker, begun)
        self._told = {one.id: self._told[one.id] for one in workers if one.id in self._told}
        self._next = begun + max(self._every, _COST * (spent() - before_it))

    def _sight(self, worker: WatchedWorker, at: HeldListener, now: float) -> Sight | None:
        """What there is to see of this listener; None if nobody waits there."""
        if not self._watched.depth(at).queue:
            return None
        # In this order: a connection that comes in between must not look accepted.
        front = self._fronts[at.bind]
        selected = front.selected(at.slot) if front.counting else None
        queue = self._watched.depth(at).queue
        before = self._silences.get(at.cookie)
        if before is None or queue < before.last.queue:
            # Most queues are gone at the next look, and the rest is expensive to see.
            return Sight(now, queue, selected)
        threads: dict[int, Scheduled] = {}
        for pid in self._watched.processes(worker.id):
            threads |= proc.scheduling(pid)
        return Sight(now, queue, selected, self._watched.sockets(worker.id), threads)

    def _hang(self, worker: WatchedWorker, silences: list[Silence], now: float) -> Hang | None:
        longest = max(silences, key=lambda one: one.able, default=None)
        if longest is None or longest.able < self._every:
            return None
        waiting = sum(one.last.queue for one in silences)
        doing = proc.doing(self._watched.processes(worker.id))
        return Hang(now - longest.since, longest.able, waiting, doing)

    def _tell(self, worker: WatchedWorker, now: float) -> None:
        hang, told = self.hangs.get(worker.id), self._told.get(worker.id)
        if hang and hang.able >= _SAID and (told is None or now >= told.at + _SAY_AGAIN):
            self._told[worker.id] = _Told(now)
            self._say(f"{worker.name} {hang}")
        elif not hang and told and not told.over:
            told.over = True
            self._say(f"{worker.name} accepts again")
