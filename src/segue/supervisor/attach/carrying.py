"""Kept connections of listeners that have had their time, carried to those that have a share.

A server that restarts itself tells nobody that it is about to close its connections.  It can be
known in two cases: a listener has no share any more, since enough newer ones accept; and it has
closed while its process goes on.  A server that closes both at once, with nothing before, keeps
nothing.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from segue.engine.attached import Attached, AttachedListener
from segue.engine.carry import Carrier
from segue.engine.duplicate import duplicate
from segue.errors import NotSupported, SegueError
from segue.group import Listener
from segue.linux import proc
from segue.supervisor.attach.attachment import Attachment
from segue.supervisor.attach.owners import accepting, youngest
from segue.supervisor.settings import Bind
from segue.supervisor.workers.carrying import Carrying


@dataclass(frozen=True, slots=True)
class Holder:
    """Those who accept from one listener; ``id`` is its cookie."""

    id: int
    name: str
    listener: Listener  # with all who have it
    processes: tuple[tuple[int, int], ...]  # those who accept: pid, and start in ticks

    @property
    def living(self) -> tuple[int, ...]:
        """Those that there are still."""
        return tuple(pid for pid, start in self.processes if proc.start_time(pid) == start)

    def tree(self, most: int | None = None) -> tuple[int, ...]:
        """As in Holding."""
        found = (one for pid in self.living for one in proc.tree(pid, most))
        return tuple(dict.fromkeys(found))

    @property
    def worker(self) -> Holder:
        """As in Holding."""
        return self

    def page(self) -> None:
        """As in Marking: it is no worker of ours."""


@dataclass(slots=True)
class _Taking:
    """The address, and those that have a share, each duplicated while it is asked for."""

    bind: Bind
    listeners: Collection[Listener]
    open: ExitStack
    number: int = 0

    def takers(self) -> list[socket.socket]:
        """As in Place."""
        taken = [duplicate(one) for one in self.listeners]
        return [self.open.enter_context(one) for one in taken if one is not None]


def over(
    members: Iterable[AttachedListener], entitled: Collection[int], gone: Iterable[int]
) -> frozenset[int]:
    """The listeners that have had their time, by cookie: without a share, or ``gone``.

    None has while no other has a share.
    """
    if not entitled:
        return frozenset()
    without = (one.cookie for one in members if one.ready and one.slot not in entitled)
    return frozenset((*without, *gone))


class KeptElsewhere:
    """Carries for one attached group; owns what carries."""

    def __init__(
        self, attachment: Attachment, grace: float, make: Callable[[], Carrier] = Carrier
    ) -> None:
        self._attachment = attachment
        loop = attachment.loop
        self.carrying = Carrying(
            "http", grace, attachment.observer, loop.now, make, lambda _: None, loop.say
        )
        self.carrying.open(locked=False)
        self._holders: dict[int, Holder] = {}  # by cookie, also of listeners that have closed
        self._served: set[int] = set()  # members that served when their holders were looked up
        self._draining: frozenset[int] = frozenset()

    @property
    def _attached(self) -> Attached:
        return self._attachment.attached

    def deadline(self) -> float:
        """When ``look`` has something to do; infinity for never."""
        dues = (its.due for its in self.carrying.carries.values())
        return min(self.carrying.due, *dues, math.inf)

    def look(self) -> None:
        """Watch those that are new, and carry from those that have had their time.

        Raises SegueError or OSError.
        """
        members = self._attached.members
        # Whoever opened a listener may have handed it on before it accepts, and before its
        # generation is asked for again.
        opened = self._attached.opened
        ready = {one for one, member in members.items() if member.ready and one not in opened}
        unknown = (members.keys() - self._holders.keys()) | (ready - self._served)
        if unknown:
            self._learn(unknown)
        self._served = ready & self._holders.keys()
        gone = [one for one in self._holders if one not in members]
        for cookie in gone:
            if not self._holders[cookie].living:
                self._end(cookie)
                del self._holders[cookie]
        gone = [one for one in gone if one in self._holders]
        self._choose(over(members.values(), self._attached.entitled, gone))
        self.carrying.settle()
        now = self._attachment.loop.now()
        for cookie, its in list(self.carrying.carries.items()):
            if now >= its.due:
                self._carry(self._holders[cookie])

    def _learn(self, cookies: Collection[int]) -> None:
        """Look up who has these, and watch them from now on."""
        known = self._look_up(cookies)
        for cookie, holder in known.items():
            if cookie not in self._holders:
                self._with(holder.listener, self.carrying.watch)
        self._holders |= known

    def _look_up(self, cookies: Collection[int]) -> dict[int, Holder]:
        group = self._attachment.observer.snapshot(self._attachment.settings.address)
        there = [one for one in group.listeners if one.cookie in cookies]
        owners = proc.owners({one.inode for one in there})
        owned = [replace(one, owners=owners.get(one.inode, ())) for one in there]
        accepts = accepting(owned)
        return {one.cookie: self._holder(one, accepts[one.cookie]) for one in owned}

    def _holder(self, listener: Listener, pids: Collection[int]) -> Holder:
        member = self._attached.members.get(listener.cookie)
        pid, _ = youngest(tuple(pids))
        name = f"worker {member.generation}.{member.slot}" if member is not None else "a worker"
        starts = ((one, proc.start_time(one)) for one in pids)
        processes = tuple((one, start) for one, start in starts if start is not None)
        return Holder(listener.cookie, f"{name} (pid {pid})" if pid else name, listener, processes)

    def _with(self, listener: Listener, act: Callable[[socket.socket], None]) -> None:
        """Do this with a duplicate; one that cannot be had is passed over."""
        try:
            taken = duplicate(listener)
        except NotSupported:
            return  # as the attach has said
        if taken is not None:
            with taken:
                act(taken)

    def _choose(self, draining: frozenset[int]) -> None:
        """Begin with those that have just lost their share, and end with those that have it."""
        for cookie in self._draining - draining:
            self._end(cookie)
        for cookie in draining - self._draining:
            self._begin(cookie, self._attached.members.keys() - draining)
        self._draining = draining & self._holders.keys()

    def _begin(self, cookie: int, staying: Collection[int]) -> None:
        # Whoever was forked since may accept too; who has closed his listener is as he was.
        self._holders |= self._look_up([cookie])
        holder = self._holders.get(cookie)
        if holder is None:
            return
        others = [self._holders[one] for one in staying if one in self._holders]
        if {pid for one in others for pid in one.living} & set(holder.tree()):
            self._attachment.loop.say(
                f"kept connections of {holder.name} stay: its process accepts from another listener"
                " here, too"
            )
            return
        if not self.carrying.begin(holder, holder):
            self._attachment.loop.say(
                f"kept connections of {holder.name} stay: its processes cannot be looked into"
            )

    def _carry(self, holder: Holder) -> None:
        members, entitled = self._attached.members.values(), self._attached.entitled
        sharing = [one.cookie for one in members if one.slot in entitled]
        listeners = [self._holders[one].listener for one in sharing if one in self._holders]
        with ExitStack() as stack:
            bind = Bind("", self._attachment.settings.address)
            self.carrying.carry(holder, holder, [_Taking(bind, listeners, stack)])

    def _end(self, cookie: int) -> None:
        said = self.carrying.forget(cookie)
        if said:
            self._attachment.loop.say(f"kept connections of {self._holders[cookie].name}: {said}")

    def follow_interfaces(self) -> None:
        """Look for new ones, once a second.  Raises KernelError."""
        self.carrying.follow_interfaces()

    def close(self) -> None:
        """Leave the listeners as they were, as far as they can be reached."""
        for cookie, holder in self._holders.items():
            if cookie in self._attached.members:
                try:
                    self._with(holder.listener, self.carrying.unwatch)
                except (SegueError, OSError) as error:
                    self._attachment.loop.say(f"the filter of {holder.name} stays: {error}")
        self.carrying.close()
