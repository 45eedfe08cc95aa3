"""What the looks show of accept queues: which workers do not accept, and which have room.

``observe.stall`` decides.  This file reads the facts for it; expensive ones only if they decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from segue.linux import proc
from segue.linux.schedstat import Scheduled
from segue.observe.stall import (
    Diagnosis,
    Doubt,
    QueueHistory,
    Seen,
    follow,
    judge,
    room,
    to_mark,
)
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.instance import HeldListener
from segue.supervisor.rescue.watched import Watched, WatchedWorker

Pair = tuple[WatchedWorker, HeldListener]  # a worker and one of its listeners


class Queues:
    """The histories of the queues in which clients wait, by the cookie of the listener."""

    def __init__(self, watched: Watched, fronts: Sequence[Front], patience: float) -> None:
        self._watched, self._fronts, self._patience = watched, fronts, patience
        self.polled: list[Pair] = []  # the listeners that are looked at
        self._histories: dict[int, QueueHistory] = {}
        self._rooms: dict[int, Counter[int]] = {}  # at this look, by bind and worker
        self._given: Counter[int] = Counter()  # room used since this look, by bind
        self._doubts: Mapping[int, Doubt] = {}  # at this look, by worker
        self._accepted: dict[int, float] = {}  # when a queue was seen to become empty, by cookie

    def look(
        self,
        waiting: Iterable[Pair],
        now: float,
        before: float,
        doubts: Mapping[int, Doubt] = MappingProxyType({}),
    ) -> None:
        """Look at the listeners at which clients wait, except those of known stalled workers.

        ``before`` is the time of the previous look; ``doubts`` has workers that do not read.
        """
        self._watched.look()
        self._rooms.clear()
        self._given.clear()
        self._doubts = doubts
        found = {}
        for worker, at in waiting:
            depth = self._watched.depth(at)
            if depth.queue:
                seen = Seen(now, depth.queue, depth.backlog)
                history = follow(self._histories.get(at.cookie), seen, before, self._patience)
                if to_mark(self._doubted(worker, at, history), before, self._patience):
                    history = history.mark(self._selected(at), self._threads(worker))
                found[at.cookie] = history
        self._replace(found, now)

    def clear(self, now: float) -> None:
        """Forget all histories, because no client waits."""
        if self._histories:
            self._replace({}, now)

    def _replace(self, found: dict[int, QueueHistory], now: float) -> None:
        gone = dict.fromkeys(self._histories.keys() - found.keys(), now)
        recent = {one: at for one, at in self._accepted.items() if now - at <= self._patience}
        self._accepted = {**recent, **gone}
        self._histories = found

    def _doubted(self, worker: WatchedWorker, at: HeldListener, seen: QueueHistory) -> QueueHistory:
        doubt = self._doubts.get(worker.id)
        return doubt.strengthens(seen, self._accepted.get(at.cookie, 0.0)) if doubt else seen

    def stalled(
        self, worker: WatchedWorker, at: HeldListener, now: float, stalls: Collection[int]
    ) -> float | None:
        """The time since which this worker accepts nothing, or None if it is not stalled.

        ``stalls`` has the workers that are known to be stalled.
        """
        history = self._histories.get(at.cookie)
        if history is not None:
            history = self._doubted(worker, at, history)
        if history is None or now - history.since < self._patience:
            return None
        free = self._free(worker, at.bind, now, stalls)
        if not free:
            return None  # before the expensive reads: this happens whenever all are busy
        diagnosis = self._diagnose(worker, at, now, history, free)
        if diagnosis is Diagnosis.ACCEPTS:
            self._histories[at.cookie] = replace(history, since=now, marked=None)
        if diagnosis is not Diagnosis.STALLED:
            return None
        for one in worker.listeners:
            # Facts from before the stall say nothing about it when it is awake again.
            self._histories.pop(one.cookie, None)
        return history.since

    def _diagnose(
        self, worker: WatchedWorker, at: HeldListener, now: float, history: QueueHistory, free: int
    ) -> Diagnosis:
        # In the order in which a connection passes through them, so that a connection that arrives
        # meanwhile cannot look accepted.
        selected, half_open, marked = self._selected(at), 0, history.marked
        self._watched.look()
        if marked is not None and selected - self._watched.depth(at).queue > marked.accounted:
            # Read only if it decides, because it takes milliseconds (FACTS, look).
            half_open = self._fronts[at.bind].half_open()
        seen = replace(history.seen, queue=self._watched.depth(at).queue)
        if seen.queue < history.seen.queue:
            return Diagnosis.ACCEPTS
        return judge(
            replace(history, seen=seen),
            self._patience,
            selected=selected,
            half_open=half_open,
            free=free,
            able=marked.able(now, self._threads(worker)) if marked else 0.0,
        )

    def fitting(
        self, worker: WatchedWorker, now: float, stalls: Collection[int]
    ) -> tuple[HeldListener, ...]:
        """The listeners of this worker whose queues fit into the queues of its siblings.

        That room counts as taken until the next look.
        """
        found = []
        for one in worker.listeners:
            queue = self._watched.depth(one).queue
            if 0 < queue <= self._free(worker, one.bind, now, stalls):
                self._given[one.bind] += queue
                found.append(one)
        return tuple(found)

    def depths(self, waiting: Iterable[Pair]) -> Counter[int]:
        """How many clients wait at each worker at this look."""
        found: Counter[int] = Counter()
        for worker, listener in waiting:
            history = self._histories.get(listener.cookie)
            found[worker.id] += history.seen.queue if history else 0
        return found

    def _free(self, worker: WatchedWorker, bind: int, now: float, stalls: Collection[int]) -> int:
        """How many connections the other workers can take that are awake and have a share there."""
        rooms = self._rooms.get(bind)
        if rooms is None:
            # Once a look, because each busy worker asks for it.
            rooms = self._rooms[bind] = Counter()
            shared = self._watched.shared(bind)
            for other, at in self.polled:
                if at.bind == bind and at.slot in shared and other.shares:
                    one = self._histories.get(at.cookie) or self._watched.depth(at).backlog
                    rooms[other.id] += room([one], now, self._patience)
        asleep = {worker.id, *stalls, *self._doubts}
        free = sum(part for one, part in rooms.items() if one not in asleep)
        return max(0, free - self._given[bind])

    def _selected(self, at: HeldListener) -> int:
        return self._fronts[at.bind].selected(at.slot)

    def _threads(self, worker: WatchedWorker) -> dict[int, Scheduled]:
        found: dict[int, Scheduled] = {}
        for pid in self._watched.processes(worker.id):
            found |= proc.scheduling(pid)
        return found
