"""Looks after workers that stall: notices, has their queues moved, and notices that they wake.

One look is one epoll_wait(2), which is told only of listeners with something queued.  While nobody
connects there are no looks either: whoever waits for other things waits for that epoll instance as
well.  It holds no listener open: an entry lives as long as somebody has the listener.
What follows from the looks is decided in ``observe.stall``, what is to be done about it in
``plan``, and whose listeners they are is the ``ward``'s to know.

Awake again is a worker that has accepted two *knocks* (``readiness``), the second of them
promptly.  A queue that was emptied by a cycle shrinks no more, and to leave a client in it as bait
would let that client wait; a knock is ours, and a worker that wakes, accepts once and falls asleep
again does not get its share back for it.
"""

from __future__ import annotations

import select
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from segue.engine.steering import counts_of
from segue.linux import proc
from segue.linux.schedstat import Scheduled
from segue.observe.stall import Diagnosis, QueueHistory, Seen, follow, judge, room, to_mark
from segue.supervisor.lifecycle import plan
from segue.supervisor.lifecycle.instance import HeldListener, Worker
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.rescue.watched import Ward
from segue.supervisor.workers.readiness import AGAIN, Knock

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
_DOING = {
    "R": "is running",
    "S": "is asleep",
    "D": "waits for a device",
    "T": "is stopped",
    "t": "is being traced",
}
Place = tuple[int, int]  # a listener: bind, slot


@dataclass(slots=True)
class Story:
    """What has befallen one worker: its stalls, and how many connections were moved away."""

    stalls: int = 0
    rescued: int = 0
    knocks: int = 0  # connections of ours, among those that were selected for it
    cycled: float = 0.0  # when its listeners were last cycled, in whichever stall
    ended: deque[tuple[float, float]] = field(default_factory=deque)
    said: float | None = None  # when it was last said that it stalls

    def stalled_since(self, begin: float) -> float:
        """Seconds of its past stalls after this moment; older ones are forgotten."""
        while self.ended and self.ended[0][1] < begin:
            self.ended.popleft()
        return sum(end - max(start, begin) for start, end in self.ended)


class Rescue:
    """The looks at one ward; owns the knocks at stalled workers."""

    def __init__(self, ward: Ward) -> None:
        self.ward = ward
        # Who only balances by the queues takes nobody for stalled.
        self._patience = ward.patience or plan.FOREVER
        self.stalls: dict[int, plan.Stall] = {}
        self.stories: dict[int, Story] = {}
        self.rescued = 0
        self._records: dict[Place, QueueHistory] = {}
        self._rooms: dict[int, dict[int, int]] = {}  # at this look: bind, worker
        self._given: Counter[int] = Counter()  # of it, since this look: bind
        self._knocks: dict[int, dict[Place, Knock]] = {}
        self._again: dict[int, float] = {}  # when to knock again where a knock failed
        self._ready = select.epoll()
        self._armed = False  # it rings at the next connection
        self._busy = 0.0  # when somebody was last seen to wait
        self._watched: list[tuple[Worker, HeldListener]] = []
        self._polled: dict[int, tuple[Worker, HeldListener]] = {}
        self._looked = 0.0
        self._pace = 1.0  # of the usual time between two looks
        self.found = False

    @property
    def due(self) -> float:
        """When to look next; never where there is nothing to look at, or the bell will ring."""
        if self._armed or not self._polled:
            return plan.FOREVER
        return self._looked + self._pace * self.ward.every

    def prepare(self) -> None:
        """Take note of the listeners there are now.  A worker alone cannot be helped.

        Raises OSError when the kernel has no room for them; until it has, there are no looks.
        """
        workers = self.ward.watched()
        watched = [(one, hold) for one in workers for hold in one.holds]
        if self.ward.every == plan.FOREVER or len(workers) < 2:
            watched = []
        # By cookie, since a listener that is closed may leave its slot to the next one.
        if watched != self._watched:
            self._silence()
            self._watched, self._polled = [], {}
            # Anew, since an entry cannot be taken out without a descriptor of its listener.
            self._ready.close()
            self._ready = select.epoll()
            self._polled = self._registered(watched)
            self._watched = watched
        ids = {one.id for one in workers}
        for worker in set(self.stalls) - ids:
            self._forget(worker)

    def _registered(
        self, watched: list[tuple[Worker, HeldListener]]
    ) -> dict[int, tuple[Worker, HeldListener]]:
        """Under numbers that tell them apart: all are open at once, and none afterwards."""
        polled = {}
        with ExitStack() as opened:
            for worker, hold in watched:
                listener = self.ward.open(hold)
                if listener is not None:
                    opened.enter_context(listener)
                    self._ready.register(listener.fileno(), select.EPOLLIN)
                    polled[listener.fileno()] = worker, hold
        return polled

    def look(self) -> None:
        """Look once; ``found`` then says whether there is something for the plan.

        Raises KernelError or OSError.
        """
        now = self.ward.now()
        before, self._looked, self.found = self._looked, now, False
        waiting = [
            self._polled[number] for number, event in self._ready.poll(0) if event & select.EPOLLIN
        ]
        if not waiting and not self.stalls:
            # As most looks are: it should cost no more than its system call.
            self._records = {}
            self._pace = _UNHURRIED
            self.ward.saw(now, now - before, {})
            if now >= self._busy + _QUIET:
                self._listen()
            return
        self._pace = 1.0
        self.ward.look()
        self._rooms.clear()
        self._given.clear()
        places = {(hold.bind, hold.slot) for _, hold in waiting}
        self._records = {at: one for at, one in self._records.items() if at in places}
        for worker, hold in waiting:
            if worker.id not in self.stalls:
                self._follow(worker, hold, now, before)
        found = [self._judged(worker, hold, now) for worker, hold in waiting]
        followed = [self._attend(worker, now) for worker in list(self.stalls)]
        self.found = any(found) or any(followed)
        self._busy = now
        depths: Counter[int] = Counter()
        for worker, hold in waiting:
            record = self._records.get((hold.bind, hold.slot))
            depths[worker.id] += record.seen.queue if record else 0
        self.ward.saw(now, now - before, depths)

    def move(self, worker: Worker) -> None:
        """Perform plan.Rescue: cycle those of its listeners at which no more wait than the
        siblings at the same address can take; the others wait until they can.
        """
        now, stall = self.ward.now(), self.stalls[worker.id]
        fitting = []
        for hold in worker.holds:
            queue = self._queue(hold)
            if 0 < queue <= self._free(worker, hold.bind, now):
                self._given[hold.bind] += queue
                fitting.append(hold)
        if not fitting:
            self.stalls[worker.id] = replace(stall, not_before=now + self._patience)
            return
        own = self._hang_up(worker.id)
        moved = self.ward.move(worker, tuple(fitting), own)
        self.rescued += moved
        now = self.ward.now()
        self.stories[worker.id].rescued += moved
        self.stories[worker.id].cycled = now
        self.stalls[worker.id] = replace(stall, queue=0, not_before=now + CYCLE_AGAIN)
        if worker.stage is Stage.SERVING:
            self._knock(worker, now)

    def ended(self, worker: int) -> None:
        """Forget a worker whose process is gone."""
        self._forget(worker)
        self.stories.pop(worker, None)
        self._again.pop(worker, None)

    def _forget(self, worker: int) -> None:
        if worker in self.stalls:
            self._hang_up(worker)
            del self.stalls[worker]

    def told(self, worker: int) -> dict[str, Any]:
        """For the status: how long it has stalled now, how often ever, and how many were moved."""
        stall, story = self.stalls.get(worker), self.stories.get(worker, Story())
        return {
            "stalled": None if stall is None else round(self.ward.now() - stall.since, 3),
            "stalls": story.stalls,
            "rescued": story.rescued,
        }

    def close(self) -> None:
        """Hang up on everybody."""
        for worker in list(self._knocks):
            self._hang_up(worker)
        self._silence()
        self._ready.close()

    # The bell

    def _listen(self) -> None:
        """No more looks until somebody connects."""
        self.ward.watch(self._ready, self._silence)
        self._armed = True

    def _silence(self) -> None:
        """Begin to look: it rang, or there are other listeners."""
        if self._armed:
            self.ward.unwatch(self._ready)
            self._armed = False
        self._looked = self._busy = self.ward.now()

    # A listener at which somebody waits

    def _follow(self, worker: Worker, hold: HeldListener, now: float, looked: float) -> None:
        depth = self.ward.depth(hold)
        place = (hold.bind, hold.slot)
        if depth is None or not depth.queue:
            self._records.pop(place, None)
            return
        seen = Seen(now, depth.queue, depth.backlog)
        record = follow(self._records.get(place), seen, looked, self._patience)
        if to_mark(record, looked, self._patience):
            record = record.mark(self._selected(hold), self._threads(worker))
        self._records[place] = record

    def _judged(self, worker: Worker, hold: HeldListener, now: float) -> bool:
        """Whether this worker has been found stalled at this look."""
        record = self._records.get((hold.bind, hold.slot))
        if record is None or worker.id in self.stalls or now - record.since < self._patience:
            return False
        free = self._free(worker, hold.bind, now)
        if not free:
            return False  # before the reads that cost more: so it is whenever all are busy
        # In the order in which a connection goes through them: none that arrives meanwhile can
        # look like one that was accepted.
        selected, half_open = self._selected(hold), 0
        self.ward.look()
        if record.marked is not None and selected - self._queue(hold) > record.marked.accounted:
            # Asked for only where it decides: it takes milliseconds (FACTS, look).
            front = self.ward.fronts[hold.bind]
            where = front.bind.address
            half_open = len(front.observer.diag.half_open(where.port, where.family))
        seen = replace(record.seen, queue=self._queue(hold))
        diagnosis = Diagnosis.ACCEPTS
        if seen.queue >= record.seen.queue:
            able = record.marked.able(now, self._threads(worker)) if record.marked else 0.0
            diagnosis = judge(
                replace(record, seen=seen),
                self._patience,
                selected=selected,
                half_open=half_open,
                free=free,
                able=able,
            )
        if diagnosis is Diagnosis.ACCEPTS:
            self._records[hold.bind, hold.slot] = replace(record, since=now, marked=None)
        if diagnosis is not Diagnosis.STALLED:
            return False
        queue = sum(map(self._queue, worker.holds))
        for one in worker.holds:
            # What was seen before it stalled says nothing of it when it is awake again.
            self._records.pop((one.bind, one.slot), None)
        story = self.stories.setdefault(worker.id, Story())
        self.stalls[worker.id] = plan.Stall(record.since, queue, story.cycled + CYCLE_AGAIN)
        story.stalls += 1
        if story.said is None or now >= story.said + _SAY_AGAIN:
            story.said = now
            self.ward.say(
                f"{worker.name} has accepted nothing for {1000 * (now - record.since):.0f} ms"
                f"{self._doing(worker)}: {queue} connection(s) that wait there go to others"
            )
        return True

    def _free(self, worker: Worker, bind: int, now: float) -> int:
        """How many the other workers that are awake and have a share there can take."""
        rooms = self._rooms.get(bind)
        if rooms is None:
            # Once a look: where all are busy, each of them asks.
            rooms = self._rooms[bind] = {}
            shared = self.ward.shared(bind)
            for other, hold in self._polled.values():
                if hold.bind == bind and hold.slot in shared and other.stage is Stage.SERVING:
                    one = self._records.get((bind, hold.slot)) or self._backlog(hold)
                    rooms[other.id] = rooms.get(other.id, 0) + room([one], now, self._patience)
        asleep = {worker.id, *self.stalls}
        free = sum(part for one, part in rooms.items() if one not in asleep)
        return max(0, free - self._given[bind])

    def _backlog(self, hold: HeldListener) -> int:
        depth = self.ward.depth(hold)
        return depth.backlog if depth else 0

    def _queue(self, hold: HeldListener) -> int:
        depth = self.ward.depth(hold)
        return depth.queue if depth else 0

    def _selected(self, hold: HeldListener) -> int:
        counts = counts_of(self.ward.fronts[hold.bind].steering).get(hold.slot)
        return counts.new + counts.migrated if counts else 0

    def _threads(self, worker: Worker) -> dict[int, Scheduled]:
        found: dict[int, Scheduled] = {}
        for pid in self.ward.processes(worker):
            found |= proc.scheduling(pid)
        return found

    def _doing(self, worker: Worker) -> str:
        """What its processes are at, as evidence for who reads the log."""
        said = []
        for pid in self.ward.processes(worker)[:3]:
            state, channel = proc.run_state(pid) or "", proc.wait_channel(pid)
            where = f" in {channel}" if channel else ""
            said.append(f"pid {pid} {_DOING.get(state, 'is ending')}{where}")
        return f" ({', '.join(said)})" if said else ""

    # A worker that is stalled

    def _attend(self, worker_id: int, now: float) -> bool:
        """Follow a stalled worker; whether something is due: it is awake, or others wait there."""
        worker, stall = self.ward.worker(worker_id), self.stalls[worker_id]
        story = self.stories[worker_id]
        if self._awake(worker, now):
            if self.ward.stall_kill:
                story.ended.append((stall.since, now))
            self._forget(worker_id)
            if story.said is not None and story.said >= stall.since:
                self.ward.say(
                    f"{worker.name} accepts again after {now - stall.since:.2f} s;"
                    f" {story.rescued} connection(s) were moved away from it so far"
                )
            return True
        own = sum(not one.accepted for one in self._knocks.get(worker_id, {}).values())
        queue = max(0, sum(map(self._queue, worker.holds)) - own)
        limit = self.ward.stall_kill
        window = now - plan.MEMORY * limit
        total = now - max(stall.since, window) + story.stalled_since(window) if limit else 0.0
        self.stalls[worker_id] = replace(stall, queue=queue, total=total)
        if worker.stage is not Stage.SERVING:
            if not queue:
                self._forget(worker_id)  # nothing waits, and nothing new comes
            return bool(queue) and now >= stall.not_before
        return (queue > 0 and now >= stall.not_before) or (0 < limit <= total)

    def _awake(self, worker: Worker, now: float) -> bool:
        knocks = self._knocks.get(worker.id)
        if knocks is None:
            # Not behind others: a knock at a full queue is dropped, and comes again a second later.
            free = not self.stalls[worker.id].queue
            if worker.stage is Stage.SERVING and free and now >= self._again.get(worker.id, 0.0):
                self._knock(worker, now)
            return False
        accepted = [one.step(now) for one in knocks.values()]
        for one in knocks.values():
            if one.accepted:
                # At once: a worker that serves one at a time takes the next only then.
                one.close()
        prompt = all(now - one.since <= self._patience for one in knocks.values())
        if all(accepted) and prompt:
            return True
        if any(one.failed for one in knocks.values()):
            self._hang_up(worker.id)
            self._again[worker.id] = now + AGAIN
        elif all(accepted):
            self._hang_up(worker.id)
            self._knock(worker, now)
        return False

    def _knock(self, worker: Worker, now: float) -> None:
        """Connect to each of its listeners, past the table of shares."""
        if worker.id in self._knocks:
            return
        self.stories[worker.id].knocks += len(worker.holds)
        self._knocks[worker.id] = {
            (hold.bind, hold.slot): Knock(self.ward.fronts[hold.bind], hold.slot, "", now)
            for hold in worker.holds
        }

    def _hang_up(self, worker_id: int) -> int:
        """Close the knocks at a worker; how many it has not accepted."""
        knocks = self._knocks.pop(worker_id, {})
        for one in knocks.values():
            one.close()
        return sum(not one.accepted for one in knocks.values())
