"""Duplicates of the connections of serving workers, for when a worker ends or closes its own.

Only those that have been there for two looks are held: most connections are shorter.  A duplicate
keeps the kernel from telling the client that its owner has closed it, so looks are frequent, and
what an owner has closed is let go of, unless it is to wait here.  A worker that drains closes its
connections itself, and is carried from: nothing of it is held.
"""

from __future__ import annotations

import contextlib
import math
import resource
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from segue import page
from segue.engine.carry_sockets import Sockets
from segue.engine.duplicate import GONE
from segue.errors import KernelError, NotSupported, SegueError
from segue.linux import pidfd, proc, sockopt
from segue.observe import at_hand, orphans
from segue.observe.kept import Left
from segue.observe.orphans import Fate
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.loop import Loop
from segue.supervisor.settings import Settings
from segue.supervisor.workers.carrying import Carrying
from segue.supervisor.workers.marks import Marks
from segue.supervisor.workers.orphans import ASKS, PATIENCE, Event, Orphan, Orphans, whose
from segue.supervisor.workers.processes import LOOKED_AT, Process, Processes

# A client that waits for the end of its connection waits for a look, at most for the second.
_PACE = 0.25
_SLOWEST = 0.8
_COST = 40  # looks take this part of a core, where there are many connections
_TAKING_SECONDS = 0.03  # for which duplicates are taken in one look
# Descriptors that are left for everything else: clients, workers, listeners of two generations.
_SPARE = 1024
_OVER = frozenset({Phase.STOPPING, Phase.ENDED})


@dataclass(slots=True)
class _Held:
    """A duplicate, and whose connection it is."""

    connection: socket.socket
    worker: int
    pids: tuple[int, ...]  # that had it at the last look
    who: bytes  # its peer, as the page has it
    front: Front


class Holding:
    """What is held for one instance."""

    def __init__(
        self,
        settings: Settings,
        carrying: Carrying,
        loop: Loop,
        now: Callable[[], float],
        make: Callable[[], Sockets],
        say: Callable[[str], None],
    ) -> None:
        self.wanted = settings.carry_crash or settings.keep_idle > 0
        self._crash, self._keep = settings.carry_crash, settings.keep_idle
        self._grace, self._http = settings.idle_grace, settings.carry == "http"
        self._carrying, self._now, self._make, self._say = carrying, now, make, say
        self.orphans = Orphans(carrying, loop, now, say)
        self._sockets: Sockets | None = None
        self._held: dict[int, _Held] = {}  # by cookie
        self._young: set[int] = set()  # cookies that the last look saw for the first time
        self._looked = now()
        self._due = 0.0
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = max(hard // 2, hard - _SPARE)
        self._why = ""
        self.over = 0  # connections for which no descriptor was left, at the last look

    @property
    def held(self) -> int:
        """How many connections of serving workers are held."""
        return len(self._held)

    @property
    def why(self) -> str:
        """Why nothing is held, or not all; "" if all is well."""
        if not self.wanted:
            return ""
        if not self._carrying.ready:
            return self._carrying.why
        if self._why or not self.over:
            return self._why
        return (
            f"{self.over} connection(s) are not held: no more than {self._most} descriptors are"
            " for that (ulimit -Hn, LimitNOFILE)"
        )

    @property
    def due(self) -> float:
        """When ``step`` has something to do; infinity for never."""
        if not self.wanted or not self._carrying.ready or self._why:
            return math.inf
        return min(self._due, self.orphans.due)

    def step(self, instance: Instance, processes: Processes, fronts: Sequence[Front]) -> None:
        """Look at serving workers when it is time, and go on with what they have left.

        Raises KernelError where the kernel refuses to show something.
        """
        if not self.wanted or not self._carrying.ready or self._why:
            return
        if instance.phase in _OVER:
            self._let_go(list(self._held))
            self.orphans.close()
            return
        if self._sockets is None and not self._begin():
            return
        if self._now() >= self._due:
            spent = time.thread_time()
            try:
                self._look(processes, fronts)
            finally:
                self._looked = self._now()
                cost = _COST * (time.thread_time() - spent)
                self._due = self._looked + min(max(_PACE, cost), _SLOWEST)
        self.orphans.step()

    def _begin(self) -> bool:
        try:
            self._sockets = self._make()
        except (SegueError, OSError) as error:
            self._why = str(error)
            self._say(f"connections are not held for a crash: {error}")
            return False
        return True

    def let_go(self, worker: int) -> None:
        """It drains, or is told to stop: what it closes from now on is closed."""
        self._let_go([cookie for cookie, one in self._held.items() if one.worker == worker])

    def ended(self, process: Process) -> None:
        """A serving worker's process has ended unasked.  To be called before its page is removed.

        Raises KernelError.
        """
        worker = process.worker
        mine = {cookie: one for cookie, one in self._held.items() if one.worker == worker.id}
        if not mine or self._sockets is None:
            return
        others = {pid for one in mine.values() for pid in one.pids} - {process.child.pid}
        # A child of it may live on, with its connections.
        alive = {cookie for pid in others for cookie in self._sockets.established(pid)}
        self._let_go([cookie for cookie in mine if cookie in alive])
        self._left(process, [one for one in mine if one not in alive], ended=True)

    def close(self) -> None:
        """Let go of everything; twice is no error."""
        self._let_go(list(self._held))
        self.orphans.close()
        if self._sockets is not None:
            self._sockets.close()

    def _look(self, processes: Processes, fronts: Sequence[Front]) -> None:
        assert self._sockets is not None
        seen: defaultdict[int, dict[int, int]] = defaultdict(dict)  # numbers by cookie and pid
        of: dict[int, Process] = {}  # by pid
        ports = {front.bind.address.port for front in fronts}
        for process in processes:
            if process.worker.stage is Stage.SERVING:
                for pid in process.tree(LOOKED_AT)[:LOOKED_AT]:
                    of[pid] = process
                    for cookie, place in self._sockets.established(pid).items():
                        if place.port in ports:
                            seen[cookie][pid] = place.number
        gone: defaultdict[int, list[int]] = defaultdict(list)
        for cookie, one in self._held.items():
            if cookie in seen:
                one.pids = tuple(sorted(seen[cookie]))
            else:
                gone[one.worker].append(cookie)
        for process in {one.worker.id: one for one in of.values()}.values():
            # Of one that ends it is judged when we hear of it.
            if process.worker.id in gone and not proc.ending(process.child.pid):
                self._closed(process, gone[process.worker.id])
        new = seen.keys() - self._held.keys()
        self._take({one: seen[one] for one in sorted(new & self._young)}, of, fronts)
        self._young = set(new - self._held.keys())

    def _take(
        self,
        wanted: Mapping[int, Mapping[int, int]],
        of: Mapping[int, Process],
        fronts: Sequence[Front],
    ) -> None:
        """As many as there is time and room for."""
        until, self.over = self._now() + _TAKING_SECONDS, 0
        by_pid: defaultdict[int, list[int]] = defaultdict(list)
        for cookie, numbers in wanted.items():
            by_pid[min(numbers)].append(cookie)
        for pid, cookies in by_pid.items():
            with contextlib.ExitStack() as stack:
                try:
                    holder = stack.enter_context(pidfd.opened(pid))
                except KernelError:
                    continue  # it has ended
                for cookie in cookies:
                    if len(self._held) + len(self.orphans) >= self._most:
                        self.over += 1
                    elif self._now() < until:
                        pids = tuple(sorted(wanted[cookie]))
                        number = wanted[cookie][pid]
                        self._hold(cookie, holder, number, of[pid].worker, pids, fronts)

    def _hold(
        self,
        cookie: int,
        holder: int,
        number: int,
        worker: Worker,
        pids: tuple[int, ...],
        fronts: Iterable[Front],
    ) -> None:
        try:
            connection = socket.socket(fileno=pidfd.getfd(holder, number))
        except KernelError as error:
            if error.errno in GONE:
                return
            raise
        except OSError:
            return  # another file has the number by now
        front = who = None
        with contextlib.suppress(OSError):
            if sockopt.cookie(connection) == cookie:
                front = whose(fronts, *connection.getsockname()[:2])
                who = page.peer(*connection.getpeername()[:2])
        if front is None or who is None:
            connection.close()
        else:
            self._held[cookie] = _Held(connection, worker.id, pids, who, front)

    def _closed(self, process: Process, cookies: list[int]) -> None:
        """A worker that lives has these no more, or a child of it that had them has ended."""
        dead = [one for one in cookies if all(map(proc.ending, self._held[one].pids))]
        self._left(process, dead, ended=True)
        self._left(process, sorted(set(cookies) - set(dead)), ended=False)

    def _left(self, process: Process, cookies: Collection[int], *, ended: bool) -> None:
        """Judge these, which no process has any more."""
        if not cookies:
            return
        if not (self._crash if ended else self._keep):
            self._let_go(cookies)
            return
        event = Event(process.worker.name if ended else "")
        ago_ms = int(1000 * (self._now() - self._looked)) + 1
        now_ms = time.monotonic_ns() // 1_000_000
        with Marks(process) as marks:
            for cookie in cookies:
                one = self._held.pop(cookie)
                seen = at_hand.look(one.connection)
                if seen is None:
                    self.orphans.end(one.connection, event, Left.GONE)
                    continue
                # Read after the kernel was asked: one that has changed meanwhile is too young.
                mark = marks.of(one.who, one.pids, now_ms)
                grace = self._grace if self._http and mark is None else None
                if ended:
                    fate = orphans.after_an_end(seen, mark, grace, ago_ms)
                else:
                    fate = orphans.after_a_close(seen, mark, grace, self._grace, ago_ms)
                if isinstance(fate, Fate):
                    sure = fate is Fate.CARRY or mark is not None
                    patience = (PATIENCE if sure else ASKS) if ended else self._keep
                    why = Left.SILENT if ended else Left.IDLE
                    limit = self._now() + patience
                    orphan = Orphan(one.connection, one.front, grace, limit, event, why)
                    self.orphans.add(orphan, fate)
                elif ended:
                    self.orphans.end(one.connection, event, fate)
                else:
                    one.connection.close()
        self.orphans.settled(event)

    def _let_go(self, cookies: Iterable[int]) -> None:
        for cookie in cookies:
            self._held.pop(cookie).connection.close()


def refuse_impossible(settings: Settings) -> None:
    """Raise NotSupported if connections are to be held and that does not work here."""
    if not (settings.carry_crash or settings.keep_idle):
        return
    flag = "--carry-crash" if settings.carry_crash else "--keep-idle"
    needs = "Linux 6.9 or later with CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW"
    try:
        Sockets().close()
    except SegueError as error:
        raise NotSupported(flag, needs, str(error)) from error
