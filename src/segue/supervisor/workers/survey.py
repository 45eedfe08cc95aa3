"""The connections that each worker has, as the kernel shows them; the plan uses these facts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from segue.group import Group, Listener
from segue.linux import proc
from segue.observe.snapshot import Part
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.plan import Load
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.workers.processes import Processes

# If a SYN got its listener just before the flip, its request is visible within microseconds.
_SETTLED = 0.01


@dataclass(slots=True)
class Survey:
    """Looks at every front, and remembers which half-open requests an old listener may have."""

    idle_grace: float
    loads: dict[int, Load] = field(default_factory=dict)
    # Workers whose descriptors we may not see: we cannot tell which connections are theirs.
    hidden: frozenset[int] = frozenset()
    # Workers with more processes than one look reads: the same holds for them.
    crowded: frozenset[int] = frozenset()
    # inet_diag does not show the listener of a request.  So requests that existed just after the
    # flip are counted for every listener that lost its share in the flip.
    pending: dict[int, dict[int, frozenset[int]]] = field(default_factory=lambda: defaultdict(dict))

    def look(
        self, instance: Instance, processes: Processes, fronts: list[Front], now: float
    ) -> dict[int, Load]:
        """The load of every worker that drains or stops; it is also kept in ``loads``."""
        near = [one for one in instance.living if one.stage in {Stage.DRAINING, Stage.STOPPING}]
        everybody, crowded = processes.trees()
        trees = {one.id: everybody[one.id] for one in near if one.id in everybody}
        self.crowded = crowded & trees.keys()
        pids = frozenset().union(*trees.values())
        self.hidden = frozenset(
            one for one, tree in trees.items() if any(map(proc.hides_descriptors, tree))
        )
        if self.hidden or self.crowded:
            # Connections of another visible process are not theirs.
            pids = pids.union(*everybody.values())
        found = {one.id: Load() for one in near}
        for front in fronts:
            group = front.observer.snapshot(
                front.bind.address, Part.REQUESTS, Part.CONNECTIONS, pids=pids
            )
            for one in near:
                pids_of = trees.get(one.id, frozenset())
                found[one.id] = self._add(found[one.id], one, front, group, pids_of, now)
        self.loads = found
        for gone in set(self.pending) - set(found):
            del self.pending[gone]
        return found

    def forget(self, worker: int) -> None:
        """Forget what was seen of a worker before, because it begins to drain now."""
        self.loads.pop(worker, None)
        self.pending.pop(worker, None)

    def _add(
        self,
        sofar: Load,
        worker: Worker,
        front: Front,
        group: Group,
        pids: frozenset[int],
        now: float,
    ) -> Load:
        queue = sum(
            listener.queue
            for held in worker.listeners
            if held.bind == front.number and (listener := group.by_cookie(held.cookie))
        )
        grace = self.idle_grace * 1000
        connections = group.held_by(pids)
        idle = sum(1 for one in connections if one.idle_ms is not None and one.idle_ms >= grace)
        unknown = group.unowned if worker.id in self.hidden | self.crowded else ()
        return Load(
            queue=sofar.queue + queue,
            requests=sofar.requests + self._requests(worker, front, group, now),
            untouched=sofar.untouched + sum(one.untouched for one in (*connections, *unknown)),
            busy=sofar.busy + len(connections) - idle + len(unknown),
            idle=sofar.idle + idle,
        )

    def _requests(self, worker: Worker, front: Front, group: Group, now: float) -> int:
        if front.refusing:
            # Whosever they are: nobody takes over from the workers that stop now.
            return len(group.requests) if now >= worker.stage_since + _SETTLED else 1
        if front.steering.migrates:
            return 0
        mine = self.pending[worker.id]
        if front.number in mine:
            mine[front.number] &= group.requests
        elif now >= worker.stage_since + _SETTLED:
            mine[front.number] = group.requests
        else:
            return 1  # too early to know, so it does not count as quiet
        return len(mine[front.number])


def strangers(front: Front, processes: Processes) -> tuple[Listener, ...]:
    """Listeners at this front's address that we do not hold and that belong to no worker.

    A worker that was told to stop may still have a listener that we have closed.
    """
    unknown = front.observer.snapshot(front.bind.address).strangers(front.cookies)
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
