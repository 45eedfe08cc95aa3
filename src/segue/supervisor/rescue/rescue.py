"""Looks after workers that stall: notices, says whose queues to move, and notices that they wake.

One look is one epoll_wait(2), which is told only of listeners with something queued.  While nobody
connects there are no looks either: the loop waits for that epoll instance too.  It holds no
listener open: an entry lives as long as somebody has the listener.
What follows from the looks is decided in ``observe.stall``, what is to be done about it in
``plan``, and whoever performs that asks ``fitting`` before it moves a queue and says ``moved``
afterwards.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from segue.errors import SegueError
from segue.linux import proc
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.instance import HeldListener
from segue.supervisor.lifecycle.plan import FOREVER, MEMORY, Stall
from segue.supervisor.rescue.knocks import Knocks
from segue.supervisor.rescue.queues import Queues
from segue.supervisor.rescue.watched import Thresholds, Watched, WatchedWorker, Watcher
from segue.supervisor.workers.readiness import Knock

# Looks go on for so long after the last one that saw anybody wait.
_QUIET = 1.0
# While nobody waits the looks may be further apart: half a look later is still found in time.
_UNHURRIED = 1.5
# Between two cycles of one worker's listeners.  Half-open requests stay with a listener over a
# cycle (FACTS, relisten), and those that complete later wait for the next one: mostly within one
# round trip.  Each cycle lets the worker stand still for a millisecond or two.
CYCLE_AGAIN = 0.2
# A worker that stalls every second is said once in so long.
_SAY_AGAIN = 10.0
# Told of a look: now, seconds since the look before, how many wait at each worker (none where
# nothing is said), the workers that are stalled.
Saw = Callable[[float, float, Mapping[int, int], Mapping[int, Stall]], None]


@dataclass(slots=True)
class StallHistory:
    """The stalls of one worker so far, and how many clients were moved away from it."""

    stalls: int = 0
    rescued: int = 0
    cycled: float = 0.0  # when its listeners were last cycled, in whichever stall
    ended: deque[tuple[float, float]] = field(default_factory=deque)
    said: float | None = None  # when it was last said that it stalls

    def stalled_since(self, begin: float) -> float:
        """Seconds of its past stalls after this moment; older ones are forgotten."""
        while self.ended and self.ended[0][1] < begin:
            self.ended.popleft()
        return sum(end - max(start, begin) for start, end in self.ended)


class Rescue:
    """The looks at these workers, and the knocks at those that stall, which it closes."""

    def __init__(
        self,
        watched: Watched,
        fronts: Sequence[Front],
        thresholds: Thresholds,
        loop: Watcher,
        say: Callable[[str], None],
        saw: Saw | None = None,
        knock: Callable[[HeldListener, float], Knock] | None = None,
    ) -> None:
        self.thresholds = thresholds
        self.stalls: dict[int, Stall] = {}
        self.histories: dict[int, StallHistory] = {}
        self.rescued = 0
        self.found = False  # at the last look: there is something for the plan
        self.due = FOREVER  # when to look next; never with nothing to look at, or an armed bell
        self._watched, self._loop, self._say, self._saw = watched, loop, say, saw
        # Where only balancing looks at the queues, no worker counts as stalled.
        self._patience = FOREVER if thresholds.patience is None else thresholds.patience
        self._queues = Queues(watched, fronts, self._patience)
        self._knocks = Knocks(
            knock or (lambda at, now: Knock(fronts[at.bind], at.slot, "", now)), self._patience
        )
        self._hung_up: dict[int, int] = {}  # knocks in queues that are about to be moved, by worker
        self._workers: dict[int, WatchedWorker] = {}
        self._registered: list[tuple[int, HeldListener]] = []
        self._polled: dict[int, tuple[int, HeldListener]] = {}
        self._epoll = select.epoll()
        self._armed = False  # it rings at the next connection
        self._busy = 0.0  # when somebody was last seen to wait
        self._looked = 0.0
        self._pace = 1.0  # of the usual time between two looks

    def prepare(self) -> None:
        """Take note of the listeners there are now.  A worker alone cannot be helped.

        Raises OSError when the kernel has no room for them; until it has, there are no looks.
        """
        self._workers = {one.id: one for one in self._watched.watched()}
        alone = self.thresholds.every == FOREVER or len(self._workers) < 2
        listeners = [
            (one.id, at) for one in self._workers.values() for at in one.listeners if not alone
        ]
        # By cookie, since a listener that is closed may leave its slot to the next one.
        if listeners != self._registered:
            self._silence()
            self._registered, self._polled, self.due = [], {}, FOREVER
            # Anew, since an entry cannot be taken out without a descriptor of its listener.
            self._epoll.close()
            self._epoll = select.epoll()
            self._polled = self._register(listeners)
            self._registered = listeners
            self._schedule()
        self._queues.polled = [(self._workers[one], at) for one, at in self._polled.values()]
        for worker in self.stalls.keys() - self._workers.keys():
            self._forget(worker)

    def _register(
        self, listeners: list[tuple[int, HeldListener]]
    ) -> dict[int, tuple[int, HeldListener]]:
        """Under numbers that tell them apart: all are open at once, and none afterwards."""
        polled = {}
        with ExitStack() as opened:
            for worker, at in listeners:
                listener = self._watched.open(at)
                if listener is not None:
                    opened.enter_context(listener)
                    self._epoll.register(listener.fileno(), select.EPOLLIN)
                    polled[listener.fileno()] = worker, at
        return polled

    def look(self) -> None:
        """Look once; ``found`` then says whether there is something for the plan.

        Raises KernelError or OSError.
        """
        now = self._loop.now()
        before, self._looked, self.found = self._looked, now, False
        self._schedule()
        ready = [
            self._polled[number] for number, event in self._epoll.poll(0) if event & select.EPOLLIN
        ]
        if not ready and not self.stalls:
            # As most looks are: it should cost no more than its system call.
            self._queues.clear()
            if self._saw is not None:
                self._saw(now, now - before, {}, {})
            if now >= self._busy + _QUIET:
                self._listen()
            self._pace = _UNHURRIED
            self._schedule()
            return
        self._pace = 1.0
        waiting = [(self._workers[worker], at) for worker, at in ready if worker not in self.stalls]
        self._queues.look(waiting, now, before)
        found = [self._judged(worker, at, now) for worker, at in waiting]
        followed = [self._followed(self._workers[worker], now) for worker in list(self.stalls)]
        self.found = any(found) or any(followed)
        self._busy = now
        if self._saw is not None:
            self._saw(now, now - before, self._queues.depths(waiting), self.stalls)

    def fitting(self, worker: int) -> tuple[HeldListener, ...]:
        """The listeners of a stalled worker that may be cycled now.

        At each of them no more wait than the siblings at the same address can take.  What waits
        at the others waits until they can; if there is nothing to cycle, it is tried again later.
        """
        now, stall = self._loop.now(), self.stalls[worker]
        found = self._queues.fitting(self._watched.worker(worker), now, self.stalls)
        if found:
            self._hung_up[worker] = self._knocks.hang_up(worker)
        else:
            self.stalls[worker] = replace(stall, not_before=now + self._patience)
        return found

    def moved(self, worker: int, count: int) -> int:
        """Hear that so many connections were moved from the ``fitting`` listeners of a worker.

        How many of them were clients: those that were knocks of ours are nobody's connection.
        """
        clients = max(0, count - self._hung_up.pop(worker, 0))
        now, history = self._loop.now(), self.histories[worker]
        self.rescued += clients
        history.rescued += clients
        history.cycled = now
        self.stalls[worker] = replace(self.stalls[worker], queue=0, not_before=now + CYCLE_AGAIN)
        seen = self._watched.worker(worker)
        if seen.shares:
            # What the kernel refuses here the next look tries again, and says.
            with suppress(SegueError, OSError):
                self._knocks.begin(seen, now)
        return clients

    def ended(self, worker: int) -> None:
        """Forget a worker whose process is gone."""
        self._forget(worker)
        self._knocks.ended(worker)
        self._queues.polled = [(one, at) for one, at in self._queues.polled if one.id != worker]
        self.histories.pop(worker, None)

    def _forget(self, worker: int) -> None:
        self._knocks.hang_up(worker)
        self.stalls.pop(worker, None)

    def status(self, worker: int) -> dict[str, Any]:
        """How long this worker has stalled now, how often ever, and how many were moved away."""
        stall, history = self.stalls.get(worker), self.histories.get(worker, StallHistory())
        return {
            "stalled": None if stall is None else round(self._loop.now() - stall.since, 3),
            "stalls": history.stalls,
            "rescued": history.rescued,
        }

    def diverted(self, worker: int) -> int:
        """Connections selected for this worker that it never accepted from a client: those that
        were moved away, and knocks.
        """
        history = self.histories.get(worker)
        return (history.rescued if history else 0) + self._knocks.made[worker]

    def close(self) -> None:
        """Hang up on everybody."""
        self._knocks.close()
        self._silence()
        self._epoll.close()

    # The bell

    def _schedule(self) -> None:
        nothing = self._armed or not self._polled
        self.due = FOREVER if nothing else self._looked + self._pace * self.thresholds.every

    def _listen(self) -> None:
        """No more looks until somebody connects."""
        self._loop.watch(self._epoll, self._silence)
        self._armed = True

    def _silence(self) -> None:
        """Begin to look: it rang, or there are other listeners."""
        if self._armed:
            self._loop.unwatch(self._epoll)
            self._armed = False
        self._looked = self._busy = self._loop.now()
        self._schedule()

    # Stalls

    def _judged(self, worker: WatchedWorker, at: HeldListener, now: float) -> bool:
        """Whether this worker has been found stalled at this look."""
        if worker.id in self.stalls:
            return False  # by another of its listeners
        since = self._queues.stalled(worker, at, now, self.stalls)
        if since is None:
            return False
        queue = sum(self._watched.depth(one).queue for one in worker.listeners)
        history = self.histories.setdefault(worker.id, StallHistory())
        history.stalls += 1
        self.stalls[worker.id] = Stall(since, queue, history.cycled + CYCLE_AGAIN)
        if history.said is None or now >= history.said + _SAY_AGAIN:
            history.said = now
            evidence = proc.doing(self._watched.processes(worker.id))
            self._say(
                f"{worker.name} has accepted nothing for {1000 * (now - since):.0f} ms"
                f"{f' ({evidence})' if evidence else ''}: {queue} waiting connection(s) are moved"
                " to other workers"
            )
        return True

    def _followed(self, worker: WatchedWorker, now: float) -> bool:
        """Whether something is due for this stalled worker: it is awake, or others wait there."""
        stall, history = self.stalls[worker.id], self.histories[worker.id]
        limit = self.thresholds.stall_kill
        if self._knocks.awake(worker, now, clear=not stall.queue):
            if limit:
                history.ended.append((stall.since, now))
            self._forget(worker.id)
            if history.said is not None and history.said >= stall.since:
                self._say(
                    f"{worker.name} accepts again after {now - stall.since:.2f} s;"
                    f" {history.rescued} connection(s) were moved away from it so far"
                )
            return True
        queue = sum(self._watched.depth(one).queue for one in worker.listeners)
        queue = max(0, queue - self._knocks.waiting(worker.id))
        begin = now - MEMORY * limit
        total = now - max(stall.since, begin) + history.stalled_since(begin) if limit else 0.0
        self.stalls[worker.id] = replace(stall, queue=queue, total=total)
        movable = queue > 0 and now >= stall.not_before
        if worker.shares:
            return movable or 0 < limit <= total
        if not queue:
            self._forget(worker.id)  # nothing waits, and nothing new comes
        return movable
