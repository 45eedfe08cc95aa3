"""The connections that each worker has, as the kernel shows them; the plan uses these facts."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from segue.group import Connection, Group, Listener
from segue.linux import proc
from segue.observe.snapshot import Observer, Part
from segue.supervisor.allowance import Allowance
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.plan import HALF_OPEN, Load
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.workers.processes import Processes
from segue.supervisor.workers.tally import Tally, tally
from segue.supervisor.workers.witnesses import PACE, Witnesses

# If a SYN got its listener just before the flip, its request is visible within microseconds.
_SETTLED = 0.01
# Parts of a core, whatever there is to see.  What a drain has not used is there when a look can
# decide something.
_LOOKS, _SAVED = 1 / 30, 0.3  # and seconds of the processor at once
_OLDEST = 20.0  # of what is known of a worker, where the allowance does not make it older
_FRESH = 0.1  # new enough for a decision


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Of many thousand tuples that are made none is garbage: it is not looked for among them."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@dataclass(slots=True)
class Survey:
    """Looks at every front, and remembers which half-open requests an old listener may have.

    A look lists every connection of a front.  It costs the more, the more of them are kept, and so
    is only made when it can decide something: not while there is a witness of each draining worker.
    """

    observer: Observer
    idle_grace: float
    clock: Callable[[], float]
    spent: Callable[[], float] = time.thread_time  # processor time; on a busy machine a look waits
    loads: dict[int, Load] = field(default_factory=dict)
    # Workers whose descriptors we may not see: we cannot tell which connections are theirs.
    hidden: frozenset[int] = frozenset()
    # Workers with more processes than one look reads: the same holds for them.
    crowded: frozenset[int] = frozenset()
    # inet_diag does not show the listener of a request.  So requests that existed just after the
    # flip are counted for every listener that lost its share in the flip.
    pending: dict[int, dict[int, frozenset[int]]] = field(default_factory=lambda: defaultdict(dict))
    witnesses: Witnesses = field(init=False)
    _looks: Allowance = field(default_factory=lambda: Allowance.full(_LOOKS, _SAVED, 0.0))
    _looked: float = 0.0  # when the last look began
    _known: float = -math.inf  # when it ended
    _took: float = 0.0

    def __post_init__(self) -> None:
        self.witnesses = Witnesses(self.observer, self.idle_grace, self.clock, self.spent)

    def due(self, instance: Instance) -> float:
        """When ``step`` has something to do; infinity while no worker drains or stops."""
        ending = _ending(instance)
        if not ending:
            return math.inf
        draining = {one.id: one.stage_since for one in ending if one.stage is Stage.DRAINING}
        if instance.phase is Phase.STOPPING:
            # A worker may be told to stop with connections in use, once it has read all of them.
            return max(self._looked + PACE, self._looks.due)
        due = self._looked + _OLDEST
        if len(draining) < len(ending):
            # What a stopping worker has is said when it ends: no decision to spend savings on.
            due = self._looked + max(PACE, self._took / _LOOKS)
        if not self.witnesses.held.keys() >= draining.keys():
            due = min(due, max(self._looked + PACE, self.witnesses.together))
        # Nor before the half-open requests of the flip can be known.
        settled = max(draining.values(), default=-math.inf) + _SETTLED
        return max(due, settled, self._looks.due)

    def step(self, instance: Instance, processes: Processes, fronts: list[Front]) -> None:
        """Look at everything when that can decide something, as far as allowed."""
        due = self.due(instance)
        if due == math.inf:
            self.witnesses.held.clear()
        elif self.clock() >= due:
            self.look(instance, processes, fronts)

    def refresh(self, instance: Instance, processes: Processes, fronts: list[Front]) -> None:
        """Look, whatever it costs, unless the last look has just ended."""
        if self.clock() >= self._known + _FRESH:
            self.look(instance, processes, fronts)

    @_without_collection()
    def look(self, instance: Instance, processes: Processes, fronts: list[Front]) -> None:
        """Fill ``loads`` with that of every worker that drains or stops."""
        now, spent = self.clock(), self.spent()
        self._looked = now
        near = _ending(instance)
        trees, crowded = processes.trees({one.id for one in near})
        self.crowded = crowded
        self.hidden = frozenset(
            one for one, tree in trees.items() if any(map(proc.hides_descriptors, tree))
        )
        everybody = trees
        if self.hidden or self.crowded:
            # Connections of another visible process are not theirs.
            everybody, _ = processes.trees()
        pids = frozenset().union(*everybody.values())
        whose = {pid: worker for worker, tree in trees.items() for pid in tree}
        before = self.loads
        found = {one.id: Load() for one in near}
        witnesses: dict[int, Connection] = {}
        for front in fronts:
            parts = [Part.CONNECTIONS]
            if any(self._lists_requests(one, front, now) for one in near):
                # A list of its own, for which the kernel goes through every socket of the host.
                parts.append(Part.REQUESTS)
            group = self.observer.snapshot(front.bind.address, *parts, pids=pids)
            workers = {inode: whose[pid] for inode, pid in group.owners.items() if pid in whose}
            tallies = tally(group.connections, workers, self.idle_grace)
            for one in near:
                its = tallies.get(one.id, Tally())
                found[one.id] = self._add(found[one.id], one, front, group, its, now)
                if its.witness is not None and one.stage is Stage.DRAINING:
                    witnesses[one.id] = its.witness
        self.loads = {
            one: replace(load, empty_since=_empty_since(before.get(one), now))
            for one, load in found.items()
        }
        for gone in set(self.pending) - set(found):
            del self.pending[gone]
        self._known = self.clock()
        self._took = self._known - now
        self._looks.spend(self.spent() - spent, self._known)
        self.witnesses.begin(witnesses, now, self._took)

    def forget(self, worker: int) -> None:
        """Forget what was seen of a worker before, because it begins to drain now."""
        self.loads.pop(worker, None)
        self.pending.pop(worker, None)
        self.witnesses.forget(worker)

    def _add(
        self, sofar: Load, worker: Worker, front: Front, group: Group, its: Tally, now: float
    ) -> Load:
        queue = sum(
            listener.queue
            for held in worker.listeners
            if held.bind == front.number and (listener := group.by_cookie(held.cookie))
        )
        unknown = group.unowned if worker.id in self.hidden | self.crowded else ()
        return Load(
            queue=sofar.queue + queue,
            requests=sofar.requests + self._requests(worker, front, group, now),
            untouched=sofar.untouched + its.untouched + sum(one.untouched for one in unknown),
            busy=sofar.busy + its.busy + len(unknown),
            idle=sofar.idle + its.idle,
        )

    def _lists_requests(self, worker: Worker, front: Front, now: float) -> bool:
        """Not before they are settled, and not once those of the flip are gone: none is added."""
        if not _asks_for_requests(worker, front, now):
            return False
        known = self.pending[worker.id].get(front.number)
        if front.refusing or known is None:
            return now >= worker.stage_since + _SETTLED
        return bool(known)

    def _requests(self, worker: Worker, front: Front, group: Group, now: float) -> int:
        if front.refusing:
            # Whosever they are: nobody takes over from the workers that stop now.
            return len(group.requests) if now >= worker.stage_since + _SETTLED else 1
        if not _asks_for_requests(worker, front, now):
            return 0
        mine = self.pending[worker.id]
        if front.number in mine:
            mine[front.number] &= group.requests
        elif now >= worker.stage_since + _SETTLED:
            mine[front.number] = group.requests
        else:
            return 1  # too early to know, so it does not count as quiet
        return len(mine[front.number])


def _asks_for_requests(worker: Worker, front: Front, now: float) -> bool:
    """Half-open requests of the worker are looked at.

    Where they migrate, they do so when the worker closes its listener.  Until it does, it accepts
    them: if it was told to stop before, it may close them at once, with a request unread.  So their
    ACKs are awaited, but not for as long as those of a client that is gone, which migrate later.
    """
    if front.refusing or not front.steering.migrates:
        return True
    return worker.stage is Stage.DRAINING and now < worker.stage_since + HALF_OPEN


def _ending(instance: Instance) -> list[Worker]:
    return [one for one in instance.living if one.stage in {Stage.DRAINING, Stage.STOPPING}]


def _empty_since(before: Load | None, now: float) -> float:
    """For a worker that has no connection now; what it says of another is not asked for."""
    return now if before is None or before.connections else before.empty_since


def strangers(front: Front, processes: Processes) -> tuple[Listener, ...]:
    """Listeners at this front's address that are none of this instance."""
    group = front.observer.snapshot(front.bind.address)
    return tuple(one for one in unheld(group, front, processes) if one.cookie not in front.left)


def unheld(group: Group, front: Front, processes: Processes) -> tuple[Listener, ...]:
    """Listeners of a look at this front's address that we do not hold and that no worker has.

    A worker that was told to stop may still have a listener that we have closed; and helpers of an
    ended one may (``Front.left``).
    """
    unknown = group.strangers(front.cookies)
    if not unknown:
        return ()  # the search through all processes is only worth it if there are any
    trees, _ = processes.trees()
    ours = {inode for tree in trees.values() for pid in tree for inode in proc.sockets(pid)}
    return tuple(one for one in unknown if one.inode not in ours)


def describe(listener: Listener) -> str:
    """The processes that have a listener, for a sentence: ``pid 7 (nginx)``."""
    owners = listener.owners or proc.owners({listener.inode}).get(listener.inode, ())
    if not owners:
        return "a process that cannot be seen from here (another user's or namespace's)"
    return proc.describe(owners)
