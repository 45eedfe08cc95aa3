"""Listeners of workers: opened, closed and cycled, and what is due to connections that moved."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from segue.engine.nudge import Nudge
from segue.engine.steering import moves_at_close
from segue.errors import SegueError
from segue.linux import pidfd, proc
from segue.linux.sysctl import somaxconn
from segue.supervisor.front import STANDBY, Front
from segue.supervisor.lifecycle.instance import HeldListener, Worker
from segue.supervisor.run.service import Service


class Listeners:
    """Those of one service, at all of its addresses; owns the nudges."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.nudges: list[Nudge] = []

    def open(self) -> tuple[HeldListener, ...]:
        """One at each address, with no share.  Raises KernelError, with none open."""
        settings, opened = self.service.settings, list[HeldListener]()
        try:
            for front in self.service.fronts:
                opened.append(front.open(backlog=settings.backlog, nodelay=settings.nodelay))
        except BaseException:
            self.close(tuple(opened))
            raise
        return tuple(opened)

    def close(
        self, listeners: tuple[HeldListener, ...], worker: str = "", *, ended: bool = False
    ) -> None:
        """Close our descriptors of these, which this worker had last, if one had.

        They are closed whatever the kernel refuses, since nobody would ask for it again.  If the
        worker has ``ended``, no helper listens with them any more.
        """
        for one in listeners:
            front = self.service.fronts[one.bind]
            leave = functools.partial(front.leave, one.slot, worker=worker, ended=ended)
            self.service.loop.attempt(f"closing a listener at {front.bind.address}", leave)
        if listeners:
            self._nudge()

    def give_backlogs(self, workers: Iterable[Worker]) -> None:
        """Listen again where a server has listened with less than was asked for."""
        cap = somaxconn()

        def wanted(has: int) -> int | None:
            return self.service.settings.backlog_for(has, cap)

        for worker in workers:
            self._give_backlog(worker.listeners, wanted)

    def make_room(self, listeners: tuple[HeldListener, ...]) -> None:
        """Nobody accepts there until a successor has begun: as many may wait as --backlog says,
        though a dead server has listened with less.
        """
        backlog, cap = self.service.settings.backlog, somaxconn()
        self._give_backlog(listeners, lambda has: backlog if has < min(backlog, cap) else None)

    def _give_backlog(
        self, listeners: tuple[HeldListener, ...], wanted: Callable[[int], int | None]
    ) -> None:
        for held in listeners:
            front = self.service.fronts[held.bind]
            give = functools.partial(front.give_backlog, held.slot, wanted)
            doing = f"giving a listener at {front.bind.address} its backlog"
            self.service.loop.attempt(doing, give)

    def let_go(self, worker: Worker) -> None:
        """Close our descriptors of a worker's listeners."""
        held, worker.listeners = worker.listeners, ()
        self.close(held, worker.name, ended=not worker.live)

    def move(self, worker: Worker, owners: tuple[int, ...]) -> None:
        """Move what waits at this worker's listeners to those that share."""
        self.service.moved += self.cycle(worker, owners, worker.listeners)

    def move_standby(self, front: Front) -> None:
        """Move what waits at the service manager's listener.  Raises KernelError."""
        report = front.move(STANDBY, ())
        self.service.moved += report.moved if report else 0
        self._nudge()

    def cycle(
        self, worker: Worker, owners: tuple[int, ...], listeners: tuple[HeldListener, ...]
    ) -> int:
        """Cycle these listeners; how many connections were moved."""
        process = self.service.processes.by_worker.get(worker.id)

        def same(pid: int) -> bool:
            if process is not None and pid == process.child.pid:
                return not pidfd.ended(process.child.pidfd)
            return proc.parent(pid) in owners

        moved = 0
        for held in listeners:
            try:
                report = self.service.fronts[held.bind].move(held.slot, owners, same)
            except (SegueError, OSError) as error:
                self.service.warn(f"what waits at {worker.name} could not be moved: {error}")
                continue
            if report is not None:
                moved += report.moved
        self._nudge()
        return moved

    def _nudge(self) -> None:
        """Begin to wake those to whom connections were migrated, where the kernel does not."""
        if not self.service.choice.nudge:
            return
        now = self.service.world.now()
        begun = {one.address: one for one in self.nudges}
        for front in self.service.fronts:
            nudge = begun.get(front.bind.address)
            if nudge is not None:
                nudge.again(now)
                continue
            self.nudges.append(
                Nudge(
                    front.bind.address,
                    front.steering,
                    self.service.observer,
                    front.cookies_by_slot,
                    now,
                )
            )

    def step(self, now: float) -> None:
        """Go on with the nudges, and say how many connections wait where no process accepts."""
        for nudge in list(self.nudges):
            if nudge.step(now):
                self.nudges.remove(nudge)
                nudge.close()
                if nudge.waiting:
                    self.service.warn(
                        f"{nudge.waiting} connection(s) wait at listeners of"
                        f" {nudge.address} where nobody accepts, although we called"
                    )

    @property
    def move_themselves(self) -> bool:
        """What a listener holds goes to others when it is closed, and its place may be empty."""
        return all(moves_at_close(front.steering) for front in self.service.fronts)

    def others_share(self, listeners: tuple[HeldListener, ...]) -> bool:
        """At each address somebody else would take what waits at these."""
        own = {(held.bind, held.slot) for held in listeners}
        return all(
            any((front.number, slot) not in own for slot in front.shared)
            for front in self.service.fronts
        )
