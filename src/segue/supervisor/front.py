"""One address of an instance: its steering and the listeners that the supervisor holds there.

A slot names a listener in the steering; the descriptor kept here is what makes a crash harmless:
the listener, its queue and its half-open requests outlive the worker.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from segue.engine.cycle import CycleReport, cycle
from segue.engine.duplicate import duplicate
from segue.engine.own_member import OwnMember
from segue.engine.steering import IndexAddressed, Steering, counted_of
from segue.errors import InternalError, SegueError, UsageError
from segue.group import Listener
from segue.linux import proc
from segue.linux.sockopt import cookie, is_listening, open_listener
from segue.observe.snapshot import Observer, Part
from segue.policy.counts import Counts
from segue.supervisor.lifecycle.instance import HeldListener
from segue.supervisor.settings import Bind

SLOTS = 1024  # as many as the steering's table of sockets has


@dataclass(slots=True)
class Front:
    """Steering and held listeners of one bind; closes both."""

    number: int
    bind: Bind
    steering: Steering
    observer: Observer
    sockets: dict[int, socket.socket] = field(default_factory=dict)
    shared: tuple[int, ...] = ()  # the slots that have a share
    restored: int = 0  # how often the program had to be put back
    gone: Counts = field(default_factory=Counts)  # of all slots that have left
    # Others' listeners, long closed here, that serve until our first share; by slot, from the top.
    incumbents: dict[int, socket.socket] = field(default_factory=dict)
    opened: set[int] = field(default_factory=set)  # cookies of all that were ever held here

    def borrow(self) -> socket.socket | None:
        """A duplicate of a listener that serves now, the caller's to close; None without any."""
        for listener in self.sockets.values():
            if is_listening(listener):
                # socket.dup() would set O_NONBLOCK as it is here, and so for the worker too.
                return socket.socket(fileno=os.dup(listener.fileno()))
        return None

    def look_after(self, member: socket.socket) -> bool:
        """See to it that our program decides for this member's group; whether it had not.

        Whoever has a member may take a program off.  It is put back also where that cannot be told.
        Raises KernelError, OSError.
        """
        with OwnMember(member, self.steering.own_port) as own:
            found = self.steering.look_after(own)
            if found is None:
                self.steering.attach(own.listener)
        if found is False:
            self.restored += 1
        return found is False

    def open(self, *, backlog: int, nodelay: bool) -> HeldListener:
        """A new listener in the group with no share.  Raises KernelError."""
        return self.adopt(open_listener(self.bind.address, backlog=backlog, nodelay=nodelay))

    def adopt(self, listener: socket.socket, slot: int | None = None) -> HeldListener:
        """Hold this listener, which becomes the front's to close, under a slot with no share."""
        if slot is None:
            slot = next((one for one in range(SLOTS) if one not in self.sockets), None)
        if slot is None:
            listener.close()
            raise InternalError(f"{self.bind.address} has more than {SLOTS} listeners")
        try:
            self.steering.join(slot, listener)
        except BaseException:
            listener.close()
            raise
        self.sockets[slot] = listener
        self.opened.add(cookie(listener))
        return HeldListener(self.number, slot, cookie(listener))

    def defer_to(self, incumbents: Sequence[socket.socket], *, backlog: int) -> None:
        """Until the first ``share`` new connections go to these listeners of others.

        They stay the caller's, who may close them: a map holds no listener open.  Does nothing
        where members are named by index, which may not be given up while a listener lives.  Raises
        KernelError: EADDRINUSE when they cannot be joined, EBUSY when a program that still runs
        steers them.
        """
        if not incumbents or isinstance(self.steering, IndexAddressed):
            return
        # A listener that was opened up later is in no group, and in no map, before another joins
        # (measured on 6.18).  What comes to that one meanwhile migrates when it closes.
        with open_listener(self.bind.address, backlog=backlog):
            for place, one in enumerate(incumbents):
                slot = SLOTS - 1 - place
                self.steering.join(slot, one)
                self.incumbents[slot] = one
            self.steering.share(dict.fromkeys(self.incumbents, 1.0))

    def share(self, weights: Mapping[int, float]) -> None:
        """New connections by these weights of slots, from this call on."""
        self.steering.share(weights)
        self.shared = tuple(slot for slot, weight in weights.items() if weight)
        self._let_incumbents_go()

    def _let_incumbents_go(self) -> None:
        for slot, one in self.incumbents.items():
            self.steering.leave(slot, one)
        self.incumbents.clear()

    def leave(self, slot: int) -> None:
        """Let go of our descriptor; if it was the last one, an engine that migrates moves what
        the listener holds.
        """
        listener = self.sockets.pop(slot, None)
        if listener is not None:
            self.gone += counted_of(self.steering, slot)
            self.steering.leave(slot, listener)
            self.shared = tuple(one for one in self.shared if one != slot)

    def move(
        self, slot: int, owners: Collection[int], same: Callable[[int], bool] = lambda _: True
    ) -> CycleReport | None:
        """Move what is queued at this listener to those that share, by shutdown and listen.

        None, with nothing done, when the engine cannot migrate, when no other listener would take
        it (a cycle of the only member resets what it holds), or when its worker has shut it down.
        Raises KernelError when it cannot listen again.
        """
        listener = self.sockets.get(slot)
        others = [one for one in self.shared if one != slot and one in self.sockets]
        if listener is None or not self.steering.migrates or not others:
            return None
        try:
            report = cycle(listener, owners, self.observer, self.bind.address, same=same)
        except UsageError:
            return None  # workers have shut down this one, or every other
        self.steering.rejoin(slot, listener)
        return report

    def selected(self, slot: int) -> int:
        """How many connections the program has sent to this slot; 0 where it does not count."""
        count = counted_of(self.steering, slot)
        return count.new + count.migrated

    def half_open(self) -> int:
        """How many half-open requests there are at this port."""
        address = self.bind.address
        return len(self.observer.diag.half_open(address.port, address.family))

    @property
    def cookies(self) -> frozenset[int]:
        """Of every listener held here."""
        return frozenset(cookie(listener) for listener in self.sockets.values())

    def cookies_by_slot(self) -> dict[int, int]:
        """The same, by slot."""
        return {slot: cookie(listener) for slot, listener in self.sockets.items()}

    def end(self) -> tuple[list[str], int]:
        """No listener that was ever held here listens any more, whoever has a descriptor of it.

        Else clients would hang with a process that escaped, and the next start be refused.  For
        when nothing of the instance goes on.  Sentences for the log, and how many connections
        still waited.  Raises KernelError when the kernel cannot be asked.
        """
        said, waited = [], 0
        for left in self._still_there():
            waited += left.queue
            waiting = f"; {left.queue} connection(s) that waited there are lost" * bool(left.queue)
            try:
                taken = self._duplicate(left)
            except SegueError as error:
                said.append(f"{self.bind.address} is still listened at: {error}")
                continue
            if taken is not None:
                with taken:
                    taken.shutdown(socket.SHUT_RDWR)
            if left.owners:
                said.append(
                    f"{proc.describe(left.owners)} had kept a listener at {self.bind.address}: it"
                    f" listens no more{waiting}"
                )
        return said, waited

    def _still_there(self) -> list[Listener]:
        listening = self.observer.snapshot(self.bind.address).listeners
        left = {one.cookie for one in listening} & self.opened
        if not left:
            return []
        # A look at every process of the machine, at most once in an instance's life.
        owned = self.observer.snapshot(self.bind.address, Part.OWNERS).listeners
        us = os.getpid()
        return [
            replace(one, owners=tuple(pid for pid in one.owners if pid != us))
            for one in owned
            if one.cookie in left
        ]

    def _duplicate(self, listener: Listener) -> socket.socket | None:
        for held in self.sockets.values():
            if cookie(held) == listener.cookie:
                return socket.socket(fileno=os.dup(held.fileno()))
        return duplicate(listener)

    def close(self) -> None:
        """Close every descriptor; listeners that workers have stay open there."""
        self._let_incumbents_go()
        for listener in self.sockets.values():
            listener.close()
        self.sockets.clear()
        self.steering.close()
