"""The workers of a ``segue run``, as rescue looks after them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Sequence

from segue.engine.steering import moves_at_close
from segue.linux import proc
from segue.linux.inet_diag import info_of
from segue.observe.stall import LOOKS
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.instance import HeldListener, Instance, Worker
from segue.supervisor.lifecycle.plan import FOREVER
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.rescue import balancing
from segue.supervisor.rescue.watched import Depth, Thresholds, WatchedWorker
from segue.supervisor.settings import Settings
from segue.supervisor.workers.processes import Processes, part

_WATCHED = frozenset({Stage.SERVING, Stage.DRAINING, Stage.STOPPING})


def thresholds(settings: Settings, fronts: Sequence[Front]) -> Thresholds:
    """Where closing moves no queue there is no rescue; balancing looks at queues all the same."""
    moves = all(moves_at_close(front.steering) for front in fronts)
    patience = settings.rescue_after if moves else 0.0
    every = patience / LOOKS or FOREVER
    if settings.balance == "queue":
        every = min(every, balancing.EVERY)
    return Thresholds(patience or None, every, settings.limits.stall_kill)


class OwnWorkers:
    """A ``Watched``: every listener is held here, so that a queue is a getsockopt away."""

    def __init__(
        self,
        instance: Instance,
        processes: Processes,
        fronts: Sequence[Front],
        asked: Callable[[HeldListener], int] = lambda _: 0,
    ) -> None:
        """``asked`` says how many connections of our own wait at a listener."""
        self._instance, self._processes, self._fronts = instance, processes, fronts
        self._asked = asked
        self._seen: dict[int, WatchedWorker] = {}  # at the last look

    def watched(self) -> list[WatchedWorker]:
        """As in Watched: none while the instance stops."""
        if self._instance.phase is Phase.STOPPING:
            return []
        living = self._instance.living
        found = [self._as_seen(one) for one in living if one.stage in _WATCHED and one.listeners]
        self._seen = {one.id: one for one in found}
        return found

    def _as_seen(self, worker: Worker) -> WatchedWorker:
        """Mostly the same as before: this is asked in every round of the loop."""
        before, serves = self._seen.get(worker.id), worker.stage is Stage.SERVING
        if before and before.listeners is worker.listeners and before.shares == serves:
            return before
        return _seen(worker)

    def worker(self, number: int) -> WatchedWorker:
        """As in Watched."""
        return _seen(self._instance.workers[number])

    def processes(self, number: int) -> tuple[int, ...]:
        """As in Watched: of its tree as many as one look may cost."""
        return self._processes.by_worker[number].tree(part(len(self._processes.by_worker)))

    def sockets(self, number: int) -> frozenset[int] | None:
        """As in Owned."""
        most = part(len(self._processes.by_worker))
        pids = self._processes.by_worker[number].tree(most)
        if len(pids) > most or any(proc.hides_descriptors(pid) for pid in pids):
            return None
        return frozenset().union(*(proc.sockets(pid) for pid in pids))

    def open(self, listener: HeldListener) -> socket.socket | None:
        """As in Watched."""
        held = self._fronts[listener.bind].sockets.get(listener.slot)
        # socket.dup() would set O_NONBLOCK as it is here, and so for the worker too.
        return None if held is None else socket.socket(fileno=os.dup(held.fileno()))

    def look(self) -> None:
        """As in Watched: nothing to do."""

    def depth(self, listener: HeldListener) -> Depth:
        """As in Watched, at the very moment, without our own questions."""
        held = self._fronts[listener.bind].sockets.get(listener.slot)
        info = None if held is None else info_of(held)
        if info is None:
            return Depth()
        return Depth(max(0, info.unacked - self._asked(listener)), info.sacked)

    def shared(self, bind: int) -> Collection[int]:
        """As in Watched."""
        return self._fronts[bind].shared


def _seen(worker: Worker) -> WatchedWorker:
    return WatchedWorker(worker.id, worker.name, worker.listeners, worker.stage is Stage.SERVING)
