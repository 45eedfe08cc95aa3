"""Finds workers that stall, says which queues to move, and notices when workers wake.

One look is one epoll_wait(2), which returns only listeners with a queue.  While no client connects
there are no looks: the loop waits for this epoll instance too.  Where connections are carried, one
look also asks for requests that are not read (``rescue/unread.py``), and a request begins the looks
as a connection does.  The epoll instance keeps no
listener open: an entry lives as long as a process has the listener.

``observe.stall`` decides what the looks mean, and ``plan`` decides what to do.  The performer of
the plan calls ``fitting`` before it moves a queue, and ``moved`` afterwards.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

from segue.errors import SegueError
from segue.linux import proc
from segue.observe.stall import Doubt
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.health import MEMORY, Stall
from segue.supervisor.lifecycle.instance import HeldListener
from segue.supervisor.lifecycle.plan import FOREVER
from segue.supervisor.loop import HasFileno
from segue.supervisor.rescue.knocks import Knocks
from segue.supervisor.rescue.queues import Queues
from segue.supervisor.rescue.unread import UnreadRequests
from segue.supervisor.rescue.watched import Thresholds, Watched, WatchedWorker, Watcher
from segue.supervisor.workers.readiness import Knock

# Seconds for which looks continue after the last one that saw a client wait.
_QUIET = 1.0
# While no client waits, looks may be further apart: a stall is still found in time.
_UNHURRIED = 1.5
# Seconds between two cycles of one worker's listeners.  Half-open requests stay with a listener
# during a cycle (FACTS, relisten).  They mostly complete within one round trip, and then wait for
# the next cycle.  Each cycle stops the worker for a millisecond or two.
CYCLE_AGAIN = 0.2
# A worker with a request that it has not read is knocked at, at most once in so many seconds.
_DOUBT_AGAIN = 0.1
# A worker that stalls every second is logged once in so many seconds.
_SAY_AGAIN = 10.0
# Called at each look with: now, seconds since the previous look, how many clients wait at each
# worker (none if it is missing), and the stalled workers.
Saw = Callable[[float, float, Mapping[int, int], Mapping[int, Stall]], None]


@dataclass(slots=True)
class StallHistory:
    """The stalls of one worker so far, and the number of clients that were moved away."""

    stalls: int = 0
    rescued: int = 0
    cycled: float = 0.0  # when its listeners were last cycled, in any stall
    told: int = 0  # of these, up to the last stall whose end was told
    ended: deque[tuple[float, float]] = field(default_factory=deque)
    said: float | None = None  # when its stall was last logged
    untold: int = 0  # stalls since then that were not logged

    def stalled_since(self, begin: float) -> float:
        """The seconds of its past stalls after this moment.  Older stalls are forgotten."""
        while self.ended and self.ended[0][1] < begin:
            self.ended.popleft()
        return sum(end - max(start, begin) for start, end in self.ended)


class Rescue:
    """The looks at these workers, and the knocks at stalled ones; owns the knocks."""

    def __init__(
        self,
        watched: Watched,
        fronts: Sequence[Front],
        thresholds: Thresholds,
        loop: Watcher,
        say: Callable[[str], None],
        saw: Saw | None = None,
        knock: Callable[[HeldListener, float], Knock] | None = None,
        withdraw: Callable[[int], int] = lambda _: 0,
        over: Callable[[WatchedWorker, float, int], object] = lambda *_: None,
        unread: UnreadRequests | None = None,
    ) -> None:
        """``withdraw`` ends other connections of ours to a worker, whose queue will be moved, and
        returns how many wait there.  ``over`` is called where the log tells that a worker accepts
        again: which, for how many seconds it accepted nothing, and how many clients were moved
        away since the last time.  ``unread`` is where connections may be carried.
        """
        self.thresholds = thresholds
        self.doing = "looking for stalls"
        self.stalls: dict[int, Stall] = {}
        self.histories: dict[int, StallHistory] = {}
        self.rescued = 0
        self.found = False  # the last look found something for the plan
        self.due = (
            FOREVER  # when to look next; never if there is nothing to look at, or the bell is armed
        )
        self._watched, self._loop, self._say, self._saw = watched, loop, say, saw
        # If only balancing needs the looks, no worker counts as stalled.
        self._patience = FOREVER if thresholds.patience is None else thresholds.patience
        self._queues = Queues(watched, fronts, self._patience)
        self._knocks = Knocks(
            knock or (lambda at, now: Knock(fronts[at.bind], at.slot, None, now)), self._patience
        )
        self._withdraw, self._over = withdraw, over
        self._withdraw = withdraw
        self._unread = unread if thresholds.patience is not None else None
        self._bell: HasFileno | None = None  # watched for requests
        self._doubted: dict[int, float] = {}  # when a worker was last knocked at for one
        self._doubts: set[int] = set()  # workers with such a knock
        self._decides = FOREVER  # when one of them will have read nothing for long enough
        self._hung_up: dict[int, int] = {}  # by worker, knocks in queues that will be moved now
        self._workers: dict[int, WatchedWorker] = {}
        self._registered: list[tuple[int, HeldListener]] = []
        self._polled: dict[int, tuple[int, HeldListener]] = {}
        self._epoll = select.epoll()
        self._armed = False  # it reports the next connection
        self._busy = 0.0  # when a client was last seen to wait
        self._looked = 0.0
        self._pace = 1.0  # the factor of the usual time between two looks

    def prepare(self) -> None:
        """Register the present listeners.

        A single worker cannot be helped: only the end of its stall is looked for, if it has one.
        Raises OSError if the kernel has no room for them.  Until it has, there are no looks.
        """
        self._workers = {one.id: one for one in self._watched.watched()}
        alone = self.thresholds.every == FOREVER or (len(self._workers) < 2 and not self.stalls)
        listeners = [
            (one.id, at) for one in self._workers.values() for at in one.listeners if not alone
        ]
        # By cookie, because the slot of a closed listener may be used again.
        if listeners != self._registered:
            self._silence()
            self._registered, self._polled, self.due = [], {}, FOREVER
            # A new instance, because an entry cannot be removed without a descriptor of it.
            self._epoll.close()
            self._epoll = select.epoll()
            self._polled = self._register(listeners)
            self._registered = listeners
            self._schedule()
        elif self._armed:
            self._hear()
        self._queues.polled = [(self._workers[one], at) for one, at in self._polled.values()]
        for worker in self.stalls.keys() - self._workers.keys():
            self._forget(worker)

    def _register(
        self, listeners: list[tuple[int, HeldListener]]
    ) -> dict[int, tuple[int, HeldListener]]:
        """Register each under its own number: all are open at once, and none afterwards."""
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
        """Look once.  ``found`` then says whether there is something for the plan.

        Raises KernelError or OSError.
        """
        now = self._loop.now()
        before, self._looked, self.found = self._looked, now, False
        self._schedule()
        doubts = self._doubt(now)
        ready = [
            self._polled[number] for number, event in self._epoll.poll(0) if event & select.EPOLLIN
        ]
        if not ready and not self.stalls:
            # Most looks end here, so they cost little more than the system call.
            self._queues.clear(now)
            if self._saw is not None:
                self._saw(now, now - before, {}, {})
            if self._unread is not None and self._unread.came():
                self._busy = now
            if now >= self._busy + _QUIET:
                self._listen()
            # A request that a look shows waits already, so the next look must not be late.
            self._pace = 1.0 if self._unread is not None and self._unread.some else _UNHURRIED
            self._schedule()
            return
        self._pace = 1.0
        self._schedule()
        waiting = [(self._workers[worker], at) for worker, at in ready if worker not in self.stalls]
        self._queues.look(waiting, now, before, doubts)
        found = [self._judged(worker, at, now) for worker, at in waiting]
        followed = [self._followed(self._workers[worker], now) for worker in list(self.stalls)]
        self.found = any(found) or any(followed)
        self._busy = now
        if self._saw is not None:
            depths = self._queues.depths(waiting)
            for worker in self._doubts:
                depths[worker] = max(0, depths[worker] - self._knocks.waiting(worker))
            self._saw(now, now - before, depths, self.stalls)

    def _doubt(self, now: float) -> dict[int, Doubt]:
        """The workers that do not read what has come; each is knocked at.

        If the queue was empty, it shows only then that the worker accepts nothing either.
        """
        if self._unread is None:
            return {}
        for worker in list(self._doubts):
            if (
                worker not in self._workers
                or worker in self.stalls
                or self._knocks.over(worker, now)
            ):
                self._doubts.discard(worker)
        awake = self._workers.keys() - self.stalls.keys()
        found = self._unread.look(awake, self._patience) if self._registered else {}
        decided = [one.since + self._patience for one in found.values()]
        self._decides = min((at for at in decided if at > now), default=FOREVER)
        for worker in found.keys() - self._doubts:
            seen = self._workers[worker]
            if seen.shares and now >= self._doubted.get(worker, 0.0) + _DOUBT_AGAIN:
                self._doubted[worker] = now
                self._doubts.add(worker)
                self._knocks.begin(seen, now)
        return found

    def fitting(self, worker: int) -> tuple[HeldListener, ...]:
        """The listeners of a stalled worker that may be cycled now.

        The queue of each fits into the queues of the siblings at the same address.  The other
        listeners have to wait until theirs fits.  If none can be cycled, it is tried again later.
        """
        now, stall = self._loop.now(), self.stalls[worker]
        found = self._queues.fitting(self._watched.worker(worker), now, self.stalls)
        if found:
            self._hung_up[worker] = self._knocks.hang_up(worker) + self._withdraw(worker)
        else:
            self.stalls[worker] = replace(stall, not_before=now + self._patience)
        return found

    def moved(self, worker: int, count: int) -> int:
        """Count the connections that were moved from the ``fitting`` listeners of a worker.

        Returns how many of them were clients, without our own knocks.
        """
        clients = max(0, count - self._hung_up.pop(worker, 0))
        now, history = self._loop.now(), self.histories[worker]
        self.rescued += clients
        history.rescued += clients
        history.cycled = now
        self.stalls[worker] = replace(self.stalls[worker], queue=0, not_before=now + CYCLE_AGAIN)
        seen = self._watched.worker(worker)
        if seen.shares:
            # If the kernel refuses this, the next look tries again and logs it.
            with suppress(SegueError, OSError):
                self._knocks.begin(seen, now)
        return clients

    def ended(self, worker: int) -> None:
        """Forget a worker whose process is gone."""
        self._forget(worker)
        self._knocks.ended(worker)
        self._queues.polled = [(one, at) for one, at in self._queues.polled if one.id != worker]
        self.histories.pop(worker, None)
        self._doubted.pop(worker, None)

    def _forget(self, worker: int) -> None:
        self._knocks.hang_up(worker)
        self.stalls.pop(worker, None)

    def stalled(self, worker: int) -> float | None:
        """How many seconds this worker has accepted nothing; None if it does not stall."""
        stall = self.stalls.get(worker)
        return None if stall is None else round(self._loop.now() - stall.since, 3)

    def history(self, worker: int) -> StallHistory:
        """Its stalls so far."""
        return self.histories.get(worker, StallHistory())

    def diverted(self, worker: int) -> int:
        """How many connections selected for this worker it never accepted from a client.

        These are connections that were moved away, and knocks.
        """
        return self.history(worker).rescued + self._knocks.made[worker]

    def close(self) -> None:
        """Close the knocks and the epoll instance."""
        self._knocks.close()
        self._silence()
        self._epoll.close()

    # The bell

    def _schedule(self) -> None:
        nothing = self._armed or not self._polled
        usual = self._looked + self._pace * self.thresholds.every
        self.due = FOREVER if nothing else min(usual, self._decides)

    def _listen(self) -> None:
        """Stop the looks until a client connects."""
        self._loop.watch(self._epoll, self._silence)
        self._armed = True
        self._hear()

    def _hear(self) -> None:
        """A request ends the silence too, from when there is something that tells of it."""
        if self._unread is None or self._bell is not None:
            return
        self._bell = self._unread.arm()
        if self._bell is not None:
            self._loop.watch(self._bell, self._silence)
            # Of one that came before, the bell says nothing.
            if self._unread.some:
                self._silence()

    def _silence(self) -> None:
        """Begin to look, because a client connected or asked, or the listeners changed."""
        if self._armed:
            self._loop.unwatch(self._epoll)
            self._armed = False
        if self._bell is not None and self._unread is not None:
            self._loop.unwatch(self._bell)
            self._unread.disarm()
            self._bell = None
        self._looked = self._busy = self._loop.now()
        self._schedule()

    # Stalls

    def _judged(self, worker: WatchedWorker, at: HeldListener, now: float) -> bool:
        """True if this look finds the worker stalled."""
        if worker.id in self.stalls:
            return False  # found at another of its listeners
        since = self._queues.stalled(worker, at, now, self.stalls)
        if since is None:
            return False
        queue = sum(self._watched.depth(one).queue for one in worker.listeners)
        queue = max(0, queue - self._knocks.waiting(worker.id))
        history = self.histories.setdefault(worker.id, StallHistory())
        history.stalls += 1
        self.stalls[worker.id] = Stall(since, queue, history.cycled + CYCLE_AGAIN)
        if history.said is None or now >= history.said + _SAY_AGAIN:
            untold, history.said, history.untold = history.untold, now, 0
            evidence = proc.doing(self._watched.processes(worker.id))
            self._say(
                f"{worker.name} has accepted nothing for {1000 * (now - since):.0f} ms"
                f"{f' ({evidence})' if evidence else ''}: {_found(queue)}"
                f"{f'; {untold} stall(s) before this one were not logged' if untold else ''}"
            )
        else:
            history.untold += 1
        return True

    def _followed(self, worker: WatchedWorker, now: float) -> bool:
        """True if this stalled worker needs a step: it is awake, or more clients wait there."""
        stall, history = self.stalls[worker.id], self.histories[worker.id]
        limit = self.thresholds.stall_kill
        if self._knocks.awake(worker, now, clear=not stall.queue):
            if limit:
                history.ended.append((stall.since, now))
            self._forget(worker.id)
            if history.said is not None and history.said >= stall.since:
                moved, history.told = history.rescued - history.told, history.rescued
                self._over(worker, now - stall.since, moved)
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


def _found(queue: int) -> str:
    """What waits at a worker that was found stalled, and where that goes."""
    if queue:
        return f"{queue} waiting connection(s) are moved to other workers"
    return "a request waits unread on a connection that it had accepted"
