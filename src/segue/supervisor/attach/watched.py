"""Listeners that somebody else's servers opened, as rescue looks after them.

None of them is held open here (``engine.duplicate`` says why): queues are read from a listing, and
a listener is duplicated for the moment of its cycle, from a process that has it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from segue.engine.attached import AttachedListener
from segue.engine.cycle import cycle
from segue.engine.duplicate import duplicate
from segue.errors import NotSupported, SegueError, UsageError
from segue.group import Group, Listener
from segue.linux import proc
from segue.observe.stall import LOOKS
from segue.supervisor.attach.orders import accepting, youngest
from segue.supervisor.front import Front
from segue.supervisor.lifecycle import plan
from segue.supervisor.lifecycle.instance import HeldListener, Worker
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.rescue.rescue import Rescue
from segue.supervisor.rescue.watched import Depth

if TYPE_CHECKING:
    from segue.supervisor.attach.follower import Attending

# One that cannot be helped now may be later: what stands in its way is looked at so much later.
_AGAIN = 10.0


class AttachedWard:
    """A ``Ward`` of one attached group; a worker is a listener, and its number the slot."""

    stall_kill = 0.0  # its server's business

    def __init__(self, attending: Attending, patience: float) -> None:
        self.attending, self.patience = attending, patience
        self.every = patience / LOOKS or plan.FOREVER
        self.rescue = Rescue(self)
        self._group: Group | None = None  # at this look
        self._workers: dict[int, Worker] = {}  # by cookie
        self._listeners: dict[int, Listener] = {}  # of these, with owners as they were
        self._not_before: dict[int, float] = {}  # who cannot be helped, by cookie
        self._accepting: dict[int, tuple[int, ...]] = {}  # processes, by cookie
        self._said: set[int] = set()

    # What the attendant does with it

    def step(self) -> None:
        """Look if it is time to, and do what follows.  Raises KernelError or OSError."""
        rescue, attached = self.rescue, self.attending.attached
        rescue.prepare()
        if self.now() >= rescue.due:
            rescue.look()
        stalled = set(rescue.stalls)
        attached.pass_over(one for one, worker in self._workers.items() if worker.id in stalled)
        if rescue.found:
            for number in plan.due_rescues(list(attached.weights), rescue.stalls, self.now()):
                rescue.move(self.worker(number))

    def forget(self, member: AttachedListener) -> None:
        """A listener that has gone; its slot may be another's next."""
        self.rescue.ended(member.slot)
        for known in (self._workers, self._listeners, self._accepting, self._not_before):
            known.pop(member.cookie, None)
        self._said.discard(member.cookie)

    def close(self) -> None:
        """Hang up on everybody."""
        self.rescue.close()

    # As in Ward

    @property
    def fronts(self) -> Sequence[Front]:
        """As in Ward: one."""
        return (self.attending.front,)

    def now(self) -> float:
        """As in Ward."""
        return self.attending.now()

    def say(self, text: str) -> None:
        """As in Ward."""
        self.attending.say(text)

    def watched(self) -> list[Worker]:
        """As in Ward: every listener that has accepted once, and of which that can be seen."""
        attached, now = self.attending.attached, self.now()
        members = [one for one in attached.members.values() if one.ready]
        new = [
            one
            for one in members
            if one.cookie not in self._workers and now >= self._not_before.get(one.cookie, now)
        ]
        if new:
            self._learn(new, now)
        found = []
        for one in members:
            worker = self._workers.get(one.cookie)
            if worker is not None:
                shares = one.slot in attached.entitled
                worker.stage = Stage.SERVING if shares else Stage.DRAINING
                found.append(worker)
        return found

    def worker(self, number: int) -> Worker:
        """As in Ward."""
        return next(one for one in self._workers.values() if one.id == number)

    def processes(self, worker: Worker) -> tuple[int, ...]:
        """As in Ward; looked up again when one of them has ended."""
        (hold,) = worker.holds
        if not all(os.path.exists(f"/proc/{pid}") for pid in self._accepting[hold.cookie]):
            self._look_up([hold.cookie])
            worker.pid, _ = youngest(self._accepting[hold.cookie])
        return self._accepting[hold.cookie]

    def open(self, hold: HeldListener) -> socket.socket | None:
        """As in Ward."""
        taken = duplicate(self._listeners[hold.cookie])
        if taken is None:
            # Whoever had it then has it no more, and others may.
            self._look_up([hold.cookie])
            taken = duplicate(self._listeners[hold.cookie])
        return taken

    def look(self) -> None:
        """As in Ward."""
        self._group = self.attending.observer.snapshot(self.attending.wish.address)

    def depth(self, hold: HeldListener) -> Depth | None:
        """As in Ward."""
        if self._group is None:
            self.look()
        seen = self._group.by_cookie(hold.cookie) if self._group else None
        return None if seen is None else Depth(seen.queue, seen.backlog)

    def saw(self, now: float, seconds: float, depths: Mapping[int, int]) -> None:
        """As in Ward: nobody asks."""

    def shared(self, bind: int) -> Collection[int]:  # noqa: ARG002  one address
        """As in Ward."""
        return self.attending.attached.weights

    def move(self, worker: Worker, holds: tuple[HeldListener, ...], own: int) -> int:
        """As in Ward."""
        moved = 0
        for hold in holds:
            try:
                moved += self._cycle(worker, hold)
            except SegueError as error:
                self.say(f"what waits at {worker.name} could not be moved: {error}")
        self.attending.nudge()
        return max(0, moved - own)

    def watch(self, file: Any, handler: Callable[[], None]) -> None:
        """As in Ward."""
        self.attending.watch(file, handler)

    def unwatch(self, file: Any) -> None:
        """As in Ward."""
        self.attending.unwatch(file)

    # One listener

    def _cycle(self, worker: Worker, hold: HeldListener) -> int:
        attending = self.attending
        listener = self.open(hold)
        if listener is None:
            return 0  # it is gone, and what waited there moved with that
        with listener:
            known = self._listeners[hold.cookie]
            owners = self._owners(known)
            try:
                report = cycle(
                    listener, owners, attending.observer, attending.wish.address, children=False,
                    same=lambda pid: known.inode in proc.sockets(pid),
                )  # fmt: skip
            except UsageError:
                return 0  # every other has been shut down meanwhile, or this one
            attending.attached.steering.rejoin(worker.id, listener)
        return report.moved

    def _owners(self, listener: Listener) -> list[int]:
        """Who has it at this moment: those known, and children that they have had since."""
        known = set(listener.owners)
        known |= {child for pid in known for child in proc.children(pid) if _freezable(child)}
        return [pid for pid in sorted(known) if listener.inode in proc.sockets(pid)]

    def _look_up(self, cookies: Collection[int]) -> None:
        group = self.attending.observer.snapshot(self.attending.wish.address)
        there = [one for one in group.listeners if one.cookie in cookies]
        owners = proc.owners({one.inode for one in there})
        for one in there:
            whose = tuple(pid for pid in owners.get(one.inode, ()) if _freezable(pid))
            self._listeners[one.cookie] = replace(one, owners=whose)
        self._accepting |= accepting(self._listeners[one.cookie] for one in there)

    def _learn(self, members: list[AttachedListener], now: float) -> None:
        self._look_up([one.cookie for one in members])
        for member in members:
            listener = self._listeners.get(member.cookie)
            if listener is None:
                continue  # gone, as the next look at the group will find
            why = _why_not(listener)
            if why:
                self._not_before[member.cookie] = now + _AGAIN
                if member.cookie not in self._said:
                    self._said.add(member.cookie)
                    who = proc.describe(listener.owners) or "somebody"
                    self.say(f"a listener of {who} is not looked after: {why}")
                continue
            pid, _ = youngest(self._accepting[member.cookie])
            hold = HeldListener(0, member.slot, member.cookie)
            self._workers[member.cookie] = Worker(
                member.slot, member.generation, pid, now, holds=(hold,)
            )


def _why_not(listener: Listener) -> str:
    """What stands in the way of a rescue of this one; "" for nothing."""
    if not listener.owners:
        return "nobody is seen to have it who could be stopped for a moment, as init cannot"
    try:
        taken = duplicate(listener)
    except NotSupported as error:
        return str(error)
    if taken is None:
        return "its process ended just now"
    with taken:
        if taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT):
            return (
                "with TCP_DEFER_ACCEPT it accepts only who has sent something, so it cannot be"
                " asked whether it is awake"
            )
    for pid in listener.owners:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        except PermissionError:
            return f"pid {pid} may not be stopped for a moment, which needs CAP_KILL"
    return ""


def _freezable(pid: int) -> bool:
    """Neither this process nor init, which no signal stops, and which accepts nothing where it
    has opened the listener for another (systemd.socket).
    """
    return pid not in {1, os.getpid()}
