"""Listeners that somebody else's servers opened, as rescue looks after them.

None of them is held open here (``engine.duplicate`` says why): queues are read from a listing, and
a listener is duplicated for the moment of its cycle, from a process that has it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection
from dataclasses import replace

from segue.engine.attached import AttachedListener
from segue.engine.cycle import cycle
from segue.engine.duplicate import duplicate
from segue.errors import NotSupported, SegueError, UsageError
from segue.group import Group, Listener
from segue.linux import proc
from segue.linux.sockopt import defers
from segue.observe.stall import LOOKS
from segue.supervisor.attach.attachment import Attachment
from segue.supervisor.attach.owners import accepting, youngest
from segue.supervisor.lifecycle.instance import HeldListener
from segue.supervisor.lifecycle.plan import due_rescues
from segue.supervisor.rescue.rescue import Rescue
from segue.supervisor.rescue.watched import Depth, Thresholds, WatchedWorker

# One that cannot be helped now may be later: what stands in its way is looked at so much later.
_AGAIN = 10.0


class ForeignListeners:
    """A ``Watched`` of one attached group; a worker is a listener, and its number the slot."""

    def __init__(self, attachment: Attachment, patience: float, moved: Callable[[], None]) -> None:
        self.attachment, self._moved = attachment, moved
        self.rescue = Rescue(
            self,
            (attachment.front,),
            Thresholds(patience, patience / LOOKS),
            loop=attachment.loop,
            say=attachment.loop.say,
        )
        self._group: Group | None = None  # at this look
        self._workers: dict[int, WatchedWorker] = {}  # by cookie
        self._listeners: dict[int, Listener] = {}  # of these, with owners as they were
        self._not_before: dict[int, float] = {}  # those that cannot be helped, by cookie
        self._accepting: dict[int, tuple[int, ...]] = {}  # processes, by cookie
        self._said: set[int] = set()

    # What the follower does with it

    def step(self) -> None:
        """Do what follows from the looks.  Raises KernelError or OSError."""
        rescue, attached, now = self.rescue, self.attachment.attached, self.attachment.loop.now
        attached.pass_over(
            cookie for cookie, one in self._workers.items() if one.id in rescue.stalls
        )
        if rescue.found:
            for number in due_rescues(list(attached.weights), rescue.stalls, now()):
                self._rescue(number)

    def forget(self, member: AttachedListener) -> None:
        """Forget a listener that has gone; its slot may be another's next."""
        self.rescue.ended(member.slot)
        for known in (self._workers, self._listeners, self._accepting, self._not_before):
            known.pop(member.cookie, None)
        self._said.discard(member.cookie)
        self.attachment.front.deferring.discard(member.slot)

    def close(self) -> None:
        """Hang up on everybody."""
        self.rescue.close()

    # As in Watched

    def watched(self) -> list[WatchedWorker]:
        """As in Watched: every listener that has accepted once, and of which that can be seen."""
        attached, now = self.attachment.attached, self.attachment.loop.now()
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
            worker, shares = self._workers.get(one.cookie), one.slot in attached.entitled
            if worker is not None:
                if worker.shares != shares:
                    worker = self._workers[one.cookie] = worker._replace(shares=shares)
                found.append(worker)
        return found

    def worker(self, number: int) -> WatchedWorker:
        """As in Watched."""
        return next(one for one in self._workers.values() if one.id == number)

    def processes(self, number: int) -> tuple[int, ...]:
        """As in Watched; looked up again when one of them has ended."""
        worker = self.worker(number)
        (at,) = worker.listeners
        if not all(os.path.exists(f"/proc/{pid}") for pid in self._accepting[at.cookie]):
            self._look_up([at.cookie])
            name = self._name(self.attachment.attached.members[at.cookie])
            self._workers[at.cookie] = worker._replace(name=name)
        return self._accepting[at.cookie]

    def open(self, listener: HeldListener) -> socket.socket | None:
        """As in Watched."""
        taken = duplicate(self._listeners[listener.cookie])
        if taken is None:
            # Whoever had it then has it no more, and others may.
            self._look_up([listener.cookie])
            taken = duplicate(self._listeners[listener.cookie])
        return taken

    def look(self) -> None:
        """As in Watched."""
        self._group = self.attachment.observer.snapshot(self.attachment.settings.address)

    def depth(self, listener: HeldListener) -> Depth:
        """As in Watched."""
        if self._group is None:
            self.look()
        seen = self._group.by_cookie(listener.cookie) if self._group else None
        return Depth() if seen is None else Depth(seen.queue, seen.backlog)

    def shared(self, bind: int) -> Collection[int]:  # noqa: ARG002  one address
        """As in Watched."""
        return self.attachment.attached.weights

    # One listener

    def _rescue(self, number: int) -> None:
        listeners = self.rescue.fitting(number)
        moved = 0
        for at in listeners:
            try:
                moved += self._cycle(at)
            except SegueError as error:
                name = self.worker(number).name
                self.attachment.loop.say(f"what waits at {name} could not be moved: {error}")
        if listeners:
            self._moved()
            self.rescue.moved(number, moved)

    def _cycle(self, at: HeldListener) -> int:
        attachment = self.attachment
        listener = self.open(at)
        if listener is None:
            return 0  # it is gone, and what waited there moved with that
        with listener:
            known = self._listeners[at.cookie]
            owners = self._owners(known)
            try:
                report = cycle(
                    listener, owners, attachment.observer, attachment.settings.address,
                    children=False,
                    same=lambda pid: known.inode in proc.sockets(pid),
                )  # fmt: skip
            except UsageError:
                return 0  # every other has been shut down meanwhile, or this one
            attachment.attached.steering.rejoin(at.slot, listener)
        return report.moved

    def _owners(self, listener: Listener) -> list[int]:
        """Who has it at this moment: those known, and children that they have had since."""
        known = set(listener.owners)
        known |= {child for pid in known for child in proc.children(pid) if _freezable(child)}
        return [pid for pid in sorted(known) if listener.inode in proc.sockets(pid)]

    def _look_up(self, cookies: Collection[int]) -> None:
        group = self.attachment.observer.snapshot(self.attachment.settings.address)
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
                    owners = proc.describe(listener.owners) or "no process"
                    self.attachment.loop.say(f"a listener of {owners} is not looked after: {why}")
                continue
            at = HeldListener(0, member.slot, member.cookie)
            shares = member.slot in self.attachment.attached.entitled
            self._workers[member.cookie] = WatchedWorker(
                member.slot, self._name(member), (at,), shares
            )
            taken = self.open(at)
            if taken is not None:
                with taken:
                    if defers(taken):
                        self.attachment.front.deferring.add(member.slot)

    def _name(self, member: AttachedListener) -> str:
        pid, _ = youngest(self._accepting[member.cookie])
        return f"worker {member.generation}.{member.slot}" + (f" (pid {pid})" if pid else "")


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
    taken.close()
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
