"""Kept connections of workers that drain or stall, carried to others; what became of them."""

from __future__ import annotations

import math
import socket
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

from segue import page
from segue.engine.carry import BUDGET, Carrier
from segue.engine.carry_trial import try_carry
from segue.engine.carry_wish import Report, Wish
from segue.engine.duplicate import GONE
from segue.errors import KernelError, NotSupported, SegueError
from segue.linux import pidfd, proc, realtime, sockopt, tcp_queue
from segue.observe import carrying, kept
from segue.observe.carrying import Refusal
from segue.observe.kept import Left
from segue.observe.snapshot import Observer, Part
from segue.page import Mark
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.carrying import Carries
from segue.supervisor.settings import Bind
from segue.supervisor.workers.marks import Marking, Marks, marked
from segue.supervisor.workers.processes import LOOKED_AT
from segue.supervisor.workers.sleeping import Held, Sleeping

# Of one batch: each is a descriptor that is taken, and taken in vain if there is no time for it.
_FEWEST, _MOST = 4, 64
_STEP_SECONDS = 0.05  # for which nothing else is done here
_BREATH = 0.002  # for everything else, when there is more to carry at once
_PACE = 0.02
_COST = 10  # a look is made again after so many times what it took
_LONGEST = 0.1  # where something is to be carried soon
_SLOW_PACE = 0.5  # where nothing is about to pause
# Of a worker that stalls: what waits unread goes at once.  The rest goes when the stall is no short
# one, so that a worker that computes now and then keeps its clients; and in shorter steps, since
# one of them may ask meanwhile.
_REST_AFTER = 0.1
_STALLED_PACE, _STALLED_STEP = 0.01, 0.01
_STALLED_BUDGET = 0.02  # it would not run anyway
_UNSTOPPABLE_PACE = 1.0  # a tenth of a second is lost each time
# A client whose requests we have found so often, and that never paused, will hardly do.
_RESTLESS = 20

Why = Left | Refusal


@dataclass(slots=True)
class Account:
    """What became of kept connections."""

    carried: int = 0
    unread: int = 0  # of these, with a request that their worker had not read
    lost: int = 0  # no listener took them: their clients were reset
    delayed: int = 0  # no queue had room at once
    stalled: int = 0  # of those that were carried, from a worker that stalled
    left: Counter[Why] = field(default_factory=Counter)  # they stayed until their worker ended
    seconds: float = 0.0  # what it took
    asleep: bool = False  # these are of one that stalls

    def note(self, report: Report) -> None:
        """One that was carried or lost."""
        self.carried += report.carried
        self.unread += report.carried and report.unread > 0
        self.stalled += report.carried and self.asleep
        self.lost += not report.carried

    def add(self, other: Account) -> None:
        """This as well."""
        self.carried += other.carried
        self.unread += other.unread
        self.lost += other.lost
        self.delayed += other.delayed
        self.stalled += other.stalled
        self.left += other.left
        self.seconds += other.seconds

    @property
    def numbers(self) -> tuple[int, int, int]:
        """For a next supervisor; not what was left alone, which it looks at again."""
        return self.carried, self.unread, self.lost

    def adopt(self, numbers: tuple[int, int, int]) -> None:
        """Go on from these."""
        self.carried, self.unread, self.lost = numbers

    def sentence(self) -> str:
        """For the log; "" if there was nothing."""
        said = []
        if self.carried:
            more = f", {self.unread} with an unread request" if self.unread else ""
            more += f", {self.delayed} delayed" if self.delayed else ""
            said.append(f"{self.carried} carried to others in {1000 * self.seconds:.0f} ms{more}")
        if self.lost:
            said.append(f"{self.lost} lost: no listener took them")
        said += [f"{count} left alone: {why.value}" for why, count in self.left.most_common()]
        return "; ".join(said)


@dataclass(frozen=True, slots=True)
class _Ready:
    """One that waited for its next request when the kernel and its worker were asked."""

    held: Held
    mark: Mark | None
    asked: int  # when, in ms
    grace: float | None  # how long it must have been quiet, where nobody has said that it waits


@dataclass(slots=True)
class _Left:
    """What one look has left alone."""

    requests: dict[int, tuple[int, int]]  # by cookie: when the last one began or ended; how many
    timed: set[int]  # the cookies of those about which time decides
    reasons: Counter[Why] = field(default_factory=Counter)
    soon: int = 0  # what will pass
    staying: int = 0  # what will not pass, or hardly
    answered: int = 0  # what has an answer that somebody works on, by its mark or by what was sent
    late: int = 0  # there was no time for these
    rest: bool = True  # those of which nothing waits unread may go too
    asleep: dict[int, Sleeping] | None = None  # by bind, if their worker stalls

    def add(self, why: Why, cookie: int, mark: Mark | None, asked: int) -> None:
        """One for this reason, which had this mark then."""
        self.reasons[why] += 1
        if why in kept.FOR_GOOD:
            self.staying += 1
            return
        if why is Refusal.RECENT:
            self.timed.add(cookie)
        if why in carrying.ANSWERING or (mark is not None and why is Left.BUSY):
            self.answered += 1
        else:
            self.soon += why not in {Left.BUSY, Left.LASTING, Refusal.STREAM}
        if mark is not None and why in {Left.BUSY, Left.JUST_ANSWERED}:
            when, (before, count) = asked - mark.age_ms, self.requests.get(cookie, (0, 0))
            count += when != before
            self.requests[cookie] = when, count
            self.staying += count >= _RESTLESS

    def pause(self, took: float, *, progress: bool) -> float:
        """How long until the next look, after one that took so long."""
        if self.asleep is not None:
            pace = _STALLED_PACE
            if Refusal.OWNER_RUNS in self.reasons:
                pace = _UNSTOPPABLE_PACE
            more = self.late or (self.rest and any(one.left for one in self.asleep.values()))
            return _BREATH if more else pace
        if self.late:
            return _BREATH
        if progress:
            return _PACE
        if self.soon or self.staying:
            return max(_PACE, min(_COST * took, _LONGEST))
        return max(_PACE if Left.BUSY in self.reasons else _SLOW_PACE, _COST * took)


class Drained(Protocol):
    """Whose connections are carried."""

    @property
    def id(self) -> int:
        """Its number among them."""


class Holding(Marking, Protocol):
    """The processes that have its connections."""

    @property
    def worker(self) -> Drained:
        """Whose they are."""

    def tree(self, most: int | None = None) -> tuple[int, ...]:
        """Those that there are now; with ``most``, so many and perhaps one more."""


class Place(Protocol):
    """An address, and who takes what is carried there."""

    number: int  # among those of an instance
    bind: Bind

    def takers(self) -> list[socket.socket]:
        """The listeners that have a share of new connections."""


class Carrying:
    """What carries for one instance; owns the carrier once there is one.

    ``wanted`` is as in ``--carry``, and ``grace`` as in ``--idle-grace``.
    """

    def __init__(
        self,
        wanted: str,
        grace: float,
        observer: Observer,
        now: Callable[[], float],
        make: Callable[..., Carrier],
        spare: Callable[[int], None],
        say: Callable[[str], None],
    ) -> None:
        self.wanted, self._observer, self._now, self._make = wanted, observer, now, make
        self._spare = spare  # called with the pid of a process that is no worker's
        self._say, self._grace = say, grace
        # Called with each that is carried, delayed or lost.
        self.told_of: Callable[[Held, Report], None] = lambda *_: None
        self._carrier: Carrier | None = None
        self._why = "--carry off" if self.wanted == "off" else ""  # it will not be done
        self.carries: dict[int, Carries] = {}
        self.account = Account()
        self._of: dict[int, Account] = {}
        self._requests: dict[int, dict[int, tuple[int, int]]] = {}
        self._sleeping: dict[int, dict[int, Sleeping]] = {}  # by worker and bind
        # Connections of each whose answers could not be followed: time decides about them.
        self._timed: dict[int, set[int]] = {}
        self._pending: dict[Wish, Account] = {}
        self._fit = (
            _FEWEST  # so many of a batch, and twice as many as there was time for in the last
        )
        self._unwatched: set[str] = set()  # why some listeners are not, as it was said

    @property
    def how(self) -> str:
        """By whose word connections are between two requests; "off" if they are not carried."""
        if self._carrier is None:
            return "off"
        return "http" if self.wanted == "http" else "app"

    @property
    def total(self) -> Account:
        """Up to now, also of workers that drain still."""
        found = Account()
        for one in (self.account, *self._of.values()):
            found.add(one)
        return found

    def of(self, worker: int) -> Account:
        """What has become of those of one worker since it drains or stalls."""
        return self._of.get(worker, Account())

    @property
    def why(self) -> str:
        """Why kept connections are not carried; "" if they are."""
        if self._carrier is not None:
            return ""
        return self._why or "no worker's application has the middleware"

    def samples(self) -> Carrier | None:
        """What knows of requests that wait to be read, once there is something."""
        return self._carrier

    def open(self, *, locked: bool) -> None:
        """Before there is a listener: make what carries, if listeners have to be watched from then.

        That is so where notes are needed of what clients send, and where filters are ``locked``.
        """
        if locked and self.wanted == "auto":
            self._why = "workers of another user write no page unless --carry app is given"
        elif self.wanted in {"app", "http"}:
            self._begin()

    def prepare(self, processes: Iterable[Marking], fronts: Iterable[Front]) -> None:
        """Make what carries, once a worker's middleware is there."""
        if self._carrier is not None or self._why or not any(map(marked, processes)):
            return
        self._begin()
        for front in fronts:
            for listener in front.sockets.values():
                self.watch(listener)

    def _begin(self) -> None:
        try:
            self._carrier = self._make(answers=self.wanted == "http")
        except (SegueError, OSError) as error:
            self._why = str(error)
            if self.wanted != "auto":
                self._say(f"kept connections are not carried: {error}")
            return
        self._spare(self._carrier.helper)
        self._say("kept connections will be carried to the next workers")

    def watch(self, listener: socket.socket) -> None:
        """What clients of this listener send is noted from now on, if anything is carried."""
        if self._carrier is None:
            return
        try:
            refused = self._carrier.watch(listener)
            why = refused.value if refused is not None else ""
        except SegueError as error:
            why = str(error)
        if why and why not in self._unwatched:
            self._unwatched.add(why)
            self._say(f"connections of a listener will not be carried: {why}")

    def unwatch(self, listener: socket.socket) -> None:
        """Nothing is noted any more of what this listener accepts from now on."""
        if self._carrier is not None:
            self._carrier.unwatch(listener)

    def begin(self, worker: Drained, process: Holding, *, stalls: bool = False) -> bool:
        """This worker drains from now on, or stalls.  True if its connections can be carried."""
        self.forget(worker.id)
        if self._carrier is None or not (self.wanted == "http" or marked(process)):
            return False
        # Of what cannot be seen nobody would be told to go.
        tree = process.tree(LOOKED_AT)
        if len(tree) > LOOKED_AT or any(map(proc.hides_descriptors, tree)):
            return False
        now = self._now()
        self.carries[worker.id] = Carries(due=now, began=now, stalls=stalls)
        self._sleeping[worker.id] = {}
        self._of[worker.id] = Account(asleep=stalls)
        self._requests[worker.id], self._timed[worker.id] = {}, set()
        return True

    def told(self, worker: int) -> None:
        """It tells its clients to go."""
        self.carries[worker] = replace(self.carries[worker], told=True)

    def forget(self, worker: int) -> str:
        """It drains no more; what became of its connections, in words."""
        self.carries.pop(worker, None)
        self._requests.pop(worker, None)
        self._sleeping.pop(worker, None)
        self._timed.pop(worker, None)
        its = self._of.pop(worker, Account())
        self.account.add(its)
        for wish in [wish for wish, account in self._pending.items() if account is its]:
            self._pending[wish] = self.account
        return its.sentence()

    def carry(self, worker: Drained, process: Holding, places: Iterable[Place]) -> None:
        """Carry what is between two requests, for a short time, and note what is left.

        Raises KernelError where the kernel refuses to show something.
        """
        its, account = self.carries[worker.id], self._of[worker.id]
        began, before = self._now(), account.carried + account.lost
        left = _Left(self._requests[worker.id], self._timed[worker.id])
        if its.stalls:
            left.asleep = self._sleeping[worker.id]
            left.rest = began >= its.began + _REST_AFTER
        try:
            # Of a worker that stalls, clients wait.
            with realtime.urgent() if its.stalls else nullcontext():
                for place in places:
                    self._at(process, place, account, left)
        finally:
            ended = self._now()
            progress = account.carried + account.lost > before
            account.seconds += ended - began if progress else 0.0
            account.left = left.reasons
            self.carries[worker.id] = its.after(
                ended,
                ended + left.pause(ended - began, progress=progress),
                progress=progress,
                soon=left.soon + left.late,
                staying=left.staying,
                answered=left.answered,
            )

    def _at(self, process: Holding, place: Place, account: Account, left: _Left) -> None:
        began = self._now()
        held, asked = self._look(process, place, left)
        if not held:
            return
        with Marks(process) as marks:
            ready: defaultdict[tuple[int, ...], list[_Ready]] = defaultdict(list)
            for one in held:
                # Read after the kernel was asked: one that has changed meanwhile is too young.
                mark = marks.of(one.who, one.pids, asked)
                why: Why | None = kept.left(one.seen, mark)
                grace = None
                if why is Left.UNMARKED and self.wanted == "http":
                    grace, timed = self._grace, one.seen.cookie in left.timed
                    asleep = left.asleep is not None
                    why = kept.looks_kept(one.seen, grace if timed else 0.0, asleep=asleep)
                if why is None:
                    ready[one.pids].append(_Ready(one, mark, asked, grace))
                else:
                    left.add(why, one.seen.cookie, mark, asked)
            targets = place.takers() if ready else []
            # No shorter than it takes to list them.
            step = _STEP_SECONDS if left.asleep is None else _STALLED_STEP
            limit = max(self._now() + step, 2 * self._now() - began)
            for owners, those in ready.items():
                waiting = deque(sorted(those, key=lambda one: not one.held.seen.unread))
                while waiting and self._now() < limit:
                    self._batch(marks, owners, waiting, targets, account, left)
                left.late += len(waiting)
                if left.asleep is not None:
                    left.asleep[place.number].back([one.held for one in waiting], asked)

    def _look(self, process: Holding, place: Place, left: _Left) -> tuple[list[Held], int]:
        """The connections to look at, and when the kernel was asked of them."""
        if left.asleep is None:
            return self._held(process, place)
        assert self._carrier is not None
        its = left.asleep.setdefault(place.number, Sleeping())
        began = self._now()
        if its.due(began):
            held, asked = self._held(process, place)
            its.listed(held, asked, began, self._now())
        now = _now_ms()
        unread = [one.inode for one in sorted(self._carrier.unread(), key=lambda one: one.since)]
        return its.take(unread, now, rest=left.rest), now

    def _held(self, process: Holding, place: Place) -> tuple[list[Held], int]:
        """The connections at this address that the worker has accepted, and when it was asked."""
        numbers: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for pid in process.tree(LOOKED_AT):
            for inode, number in proc.sockets(pid).items():
                numbers[inode].append((pid, number))
        # Before, as it may take long: what the kernel saw is said as a time before each answer.
        asked = _now_ms()
        group = self._observer.snapshot(place.bind.address, Part.CONNECTIONS)
        held = [
            Held(
                one,
                who,
                tuple(numbers[one.inode]),
                process.worker.id,
                place.number,
                one.bytes_received - one.unread,
            )
            for one in group.connections
            if one.inode in numbers and (who := page.peer(*one.peer)) is not None
        ]
        return held, asked

    def _batch(
        self,
        marks: Marks,
        owners: Collection[int],
        waiting: deque[_Ready],
        targets: Sequence[socket.socket],
        account: Account,
        left: _Left,
    ) -> None:
        """One stop of the owners.  What there was no time for waits on.

        What a worker says while it stands still is true until it goes on.
        """
        assert self._carrier is not None
        with ExitStack() as taken:
            asked: dict[Wish, _Check] = {}
            while waiting and len(asked) < self._fit:
                one = waiting.popleft()
                connection = _duplicate(one.held)
                if connection is None:
                    left.reasons[Left.GONE] += 1
                    continue
                check = _Check(one, marks, connection)
                turning = one.grace is not None and left.asleep is None
                wish = Wish(
                    taken.enter_context(connection), check, one.grace, unread=True, turning=turning
                )
                asked[wish] = check
            budget = BUDGET if left.asleep is None else _STALLED_BUDGET
            reports = self._carrier.batch(list(asked), targets, owners, budget) if asked else []
            later = []
            for report in reports:
                check = asked[report.wish]
                if report.later:
                    later.append(check.one)
                elif report.pending:
                    account.delayed += 1
                    self._pending[report.wish] = account
                    self.told_of(check.one.held, report)
                elif report.refused is not None:
                    one = check.one
                    why = check.changed or report.refused
                    left.add(why, one.held.seen.cookie, one.mark, one.asked)
                else:
                    account.note(report)
                    self.told_of(check.one.held, report)
            waiting.extendleft(reversed(later))
            self._fit = min(_MOST, max(_FEWEST, 2 * (len(asked) - len(later))))

    @property
    def ready(self) -> bool:
        """There is what carries."""
        return self._carrier is not None

    def judge(
        self, wishes: Sequence[Wish], targets: Sequence[socket.socket]
    ) -> list[Refusal | None]:
        """As ``Carrier.judge``, once this is ``ready``."""
        assert self._carrier is not None
        return self._carrier.judge(wishes, targets)

    def carry_orphans(
        self, wishes: Sequence[Wish], targets: Sequence[socket.socket], seconds: float
    ) -> list[Report]:
        """Carry connections that no process uses, for so long, once this is ``ready``.

        What is pending is counted here when it is settled.  Raises KernelError.
        """
        assert self._carrier is not None
        reports = self._carrier.batch(wishes, targets, (), seconds)
        self._pending.update({one.wish: self.account for one in reports if one.pending})
        return reports

    @property
    def due(self) -> float:
        """When ``settle`` has something to do; infinity for never."""
        due = self._carrier.due if self._carrier is not None else None
        return math.inf if due is None else due

    def settle(self) -> None:
        """Find out what became of connections whose listener had no room.  Raises KernelError."""
        if self._carrier is not None and self._now() >= self.due:
            for report in self._carrier.settle():
                self._pending.pop(report.wish, self.account).note(report)

    def follow_interfaces(self) -> None:
        """Look for new ones, once a second.  Raises KernelError."""
        if self._carrier is not None:
            self._carrier.follow_interfaces()

    def close(self) -> None:
        """Take the programs away; twice is no error."""
        if self._carrier is not None:
            self._carrier.close()
            self._carrier = None


def refuse_impossible(wanted: str) -> None:
    """Raise NotSupported if carrying was asked for and does not work here: one is carried."""
    if wanted in {"off", "auto"}:
        return
    trial = try_carry()
    if trial.error:
        raise NotSupported(
            f"--carry {wanted}",
            "Linux 6.9 or later with CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW",
            trial.error,
        )


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


@dataclass(slots=True)
class _Check:
    """Asked while the owners stand still: the mark must be the same as before.

    With a mark, its owner must have read nothing since.  A request that the application has not
    begun is in no mark, and in no note where the listener was not watched at the accept.
    """

    one: _Ready
    marks: Marks
    connection: socket.socket
    changed: Left | None = None

    def __call__(self) -> Refusal | None:
        mark = self.marks.of(self.one.held.who, self.one.held.pids, self.one.asked)
        if mark != self.one.mark:
            self.changed = kept.changed(mark)
        elif mark is not None and (tcp_queue.read_of(self.connection) or 0) > self.one.held.read:
            self.changed = Left.CAME_SINCE
        return Refusal.OWED if self.changed is not None else None


def _duplicate(held: Held) -> socket.socket | None:
    """The caller's to close; None if it is gone.  Raises KernelError."""
    for pid, number in held.owners:
        try:
            taken = pidfd.duplicate_socket(pid, number)
        except KernelError as error:
            if error.errno in GONE:
                continue
            raise
        if sockopt.cookie(taken) == held.seen.cookie:
            return taken
        taken.close()
    return None
