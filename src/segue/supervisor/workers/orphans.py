"""Connections of which only our duplicate is left: carried, held for a while, or ended.

Their owner has ended or has closed them (``observe/orphans.py`` has judged).  No process reads of
them, so what comes waits, and goes along.  Each has a limit, after which it is ended here: its
client sees what it would have seen of its owner.
"""

from __future__ import annotations

import math
import select
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from segue.engine.carry_wish import Report, Wish
from segue.errors import SegueError
from segue.linux import tcp_queue
from segue.observe import orphans
from segue.observe.carrying import Refusal
from segue.observe.orphans import Fate, Why
from segue.supervisor.front import Front
from segue.supervisor.loop import Loop, Rank
from segue.supervisor.workers.carrying import Account, Carrying

# A client that waits for the rest of its answer waits for so long.
ASKS = 1.0
# Where the application has given its answer whole; and where no listener has room, which is longer
# than most servers take to start.
PATIENCE = 10.0
_STEP_SECONDS = 0.05  # for which nothing else is done here
_BREATH = 0.002
_AGAIN = 0.02
_LOOK = 0.25  # between two looks for those whose limit is over
_TOGETHER = 64  # of one batch
_EVENTS = 1024


@dataclass(slots=True)
class Event:
    """What became of the connections that one end, or all closes, have left."""

    name: str = ""  # of who ended; "" for those who have closed them, of which nothing is said
    left: int = 0  # of these it is not decided yet
    account: Account = field(default_factory=Account)


@dataclass(slots=True, eq=False)
class Orphan:
    """A connection that is ours alone; owns the duplicate."""

    connection: socket.socket
    front: Front
    grace: float | None  # as in ``Wish``
    limit: float
    event: Event
    why: Why  # it is ended at its limit
    again: float = 0.0


class Orphans:
    """Those of one instance."""

    def __init__(
        self,
        carrying: Carrying,
        loop: Loop,
        now: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self._carrying, self._loop, self._now, self._say = carrying, loop, now, say
        self._epoll: select.epoll | None = None
        self._ready: deque[Orphan] = deque()  # to be carried as soon as there is time
        self._new: deque[Orphan] = deque()  # to be judged before they wait
        self._later: deque[Orphan] = deque()  # to be tried again, in this order
        self._waiting: dict[int, Orphan] = {}  # for their next request, by descriptor
        self._look = 0.0
        self._pause = 0.0
        self.after_ends = Account()
        self.went_on = 0  # with a request, after their owner had closed them

    def __len__(self) -> int:
        return len(self._ready) + len(self._new) + len(self._later) + len(self._waiting)

    @property
    def waiting(self) -> int:
        """How many wait for their next request."""
        return len(self._waiting) + len(self._new)

    def add(self, orphan: Orphan, fate: Fate) -> None:
        """Do with it what was judged.  Nothing is done before ``step``."""
        orphan.event.left += 1
        (self._ready if fate is Fate.CARRY else self._new).append(orphan)
        # The plan first takes the share of a worker that has ended.
        self._pause = self._now() + _BREATH

    def end(self, connection: socket.socket, event: Event, why: Why) -> None:
        """One that is ended at once."""
        event.account.left[why] += 1
        connection.close()

    @property
    def due(self) -> float:
        """When ``step`` has something to do; infinity for never."""
        if self._ready or self._new:
            return self._pause
        due = self._later[0].again if self._later else math.inf
        return min(due, self._look + _LOOK) if self._waiting else due

    def step(self) -> None:
        """Carry, judge and end what is due, for a short time."""
        now = self._now()
        while self._later and self._later[0].again <= now:
            self._ready.append(self._later.popleft())
        if now >= self._pause and (self._ready or self._new):
            limit = now + _STEP_SECONDS
            try:
                while self._ready and self._now() < limit:
                    self._carry(limit)
                while self._new and self._now() < limit:
                    self._judge()
            finally:
                self._pause = self._now() + _BREATH
        if self._waiting and now >= self._look + _LOOK:
            self._look = now
            for one in [one for one in self._waiting.values() if one.limit <= now]:
                self._forget(one)
                self._decided(one, one.why)

    def settled(self, event: Event) -> None:
        """Say what became of an event's connections, once all is decided."""
        if event.left:
            return
        said = event.account.sentence()
        if said and event.name:
            self._say(f"of the connections of {event.name} {said}")
        if event.name:
            self.after_ends.add(event.account)
        found = replace(event.account, left=Counter())
        self._carrying.account.add(found)  # of what has ended nothing is left alone

    def close(self) -> None:
        """End all of them; twice is no error."""
        everyone = [*self._ready, *self._new, *self._later, *self._waiting.values()]
        for queue in (self._ready, self._new, self._later):
            queue.clear()
        self._waiting.clear()
        for one in everyone:
            one.connection.close()
        if self._epoll is not None:
            self._loop.unwatch(self._epoll)
            self._epoll.close()
            self._epoll = None

    def _taken(self, queue: deque[Orphan]) -> list[Orphan]:
        """The next of one address."""
        found = [queue.popleft()]
        while queue and len(found) < _TOGETHER and queue[0].front is found[0].front:
            found.append(queue.popleft())
        return found

    def _carry(self, limit: float) -> None:
        some = self._taken(self._ready)
        began = self._now()
        try:
            wishes = {Wish(one.connection, None, one.grace, unread=True): one for one in some}
            seconds = max(0.0, limit - began)
            targets = some[0].front.takers()
            reports = self._carrying.carry_orphans(list(wishes), targets, seconds)
        except (SegueError, OSError):
            # It is theirs to wait for what the kernel refuses all of them.
            for one in some:
                self._again(one, Refusal.KERNEL)
            raise
        for report in reports:
            one = wishes[report.wish]
            if report.later:
                self._ready.appendleft(one)
            elif report.refused is not None:
                self._refused(one, report.refused)
            else:
                self._gone(one, report, (self._now() - began) / len(reports))

    def _refused(self, one: Orphan, why: Refusal) -> None:
        if one.grace is not None and tcp_queue.unread(one.connection):
            # The next request has come, and of whatever kind it is: nobody has begun with it.
            one.grace = None
            self._again(one, why)
        elif why in orphans.PASSES:
            self._again(one, why)
        else:
            self._decided(one, why)

    def _again(self, one: Orphan, why: Why) -> None:
        now = self._now()
        if now >= one.limit:
            self._decided(one, why)
            return
        one.again = now + _AGAIN
        self._later.append(one)

    def _judge(self) -> None:
        """Those that no request can be carried with are ended; the others wait for theirs."""
        some = self._taken(self._new)
        wishes = [Wish(one.connection, None, one.grace, unread=True) for one in some]
        try:
            found: Sequence[Refusal | None]
            found = self._carrying.judge(wishes, some[0].front.takers())
        except (SegueError, OSError):
            for one in some:
                self._decided(one, Refusal.KERNEL)
            raise
        for one, why in zip(some, found, strict=True):
            if why is None or why in orphans.PASSES:
                self._wait(one)
            else:
                self._decided(one, why)

    def _wait(self, one: Orphan) -> None:
        if self._epoll is None:
            self._epoll = select.epoll()
            self._loop.watch(self._epoll, self._heard, Rank.NOTIFIED)
        if not self._waiting:
            self._look = self._now()
        number = one.connection.fileno()
        self._waiting[number] = one
        self._epoll.register(number, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT)

    def _forget(self, one: Orphan) -> None:
        """It waits no more.  A duplicate elsewhere would leave it in the set (epoll(7))."""
        assert self._epoll is not None
        number = one.connection.fileno()
        del self._waiting[number]
        self._epoll.unregister(number)

    def _heard(self) -> None:
        """Requests have come, or ends."""
        assert self._epoll is not None
        for number, events in self._epoll.poll(0, _EVENTS):
            one = self._waiting[number]
            self._forget(one)
            if events & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
                self._decided(one, Refusal.NOT_ESTABLISHED)
            else:
                # As above.  It waits as long as a new connection might.
                one.grace, one.limit = None, self._now() + PATIENCE
                self._ready.appendleft(one)
        self.step()

    def _decided(self, one: Orphan, why: Why) -> None:
        one.event.left -= 1
        self.end(one.connection, one.event, why)
        self.settled(one.event)

    def _gone(self, one: Orphan, report: Report, seconds: float) -> None:
        one.connection.close()
        one.event.left -= 1
        one.event.account.seconds += seconds
        self.went_on += not one.event.name
        if not report.pending:  # else it is counted when it is settled
            one.event.account.note(report)
        self.settled(one.event)


def whose(fronts: Iterable[Front], host: str, port: int) -> Front | None:
    """The front at whose address this end of a connection is; the nearer of two."""
    there = [one for one in fronts if one.bind.address.port == port]
    exact = [one for one in there if one.bind.address.host == host]
    return next(iter([*exact, *there]), None)
