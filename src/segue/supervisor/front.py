"""One address of an instance: its steering and the listeners that the supervisor holds there.

A slot names a listener in the steering; the descriptor kept here is what makes a crash harmless:
the listener, its queue and its half-open requests outlive the worker.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from segue.engine.cycle import CycleReport, cycle
from segue.engine.steering import Steering
from segue.errors import InternalError, UsageError
from segue.linux.sockopt import cookie, open_listener
from segue.observe.snapshot import Observer
from segue.policy.counts import Counts
from segue.supervisor.settings import Bind
from segue.supervisor.state import Hold

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
    gone: Counts = field(default_factory=Counts)  # of all slots that have left

    def open(self, *, backlog: int, nodelay: bool) -> Hold:
        """A new listener in the group with no share.  Raises KernelError."""
        return self.adopt(open_listener(self.bind.address, backlog=backlog, nodelay=nodelay))

    def adopt(self, listener: socket.socket, slot: int | None = None) -> Hold:
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
        return Hold(self.number, slot, cookie(listener))

    def share(self, weights: Mapping[int, float]) -> None:
        """New connections by these weights of slots, from this call on."""
        self.steering.share(weights)
        self.shared = tuple(slot for slot, weight in weights.items() if weight)

    def leave(self, slot: int) -> None:
        """Let go of our descriptor; if it was the last one, an engine that migrates moves what
        the listener holds.
        """
        listener = self.sockets.pop(slot, None)
        if listener is not None:
            self.gone += self.steering.counts().get(slot, Counts())
            self.steering.leave(slot, listener)
            self.shared = tuple(one for one in self.shared if one != slot)

    def move(self, slot: int, owners: Collection[int]) -> CycleReport | None:
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
            report = cycle(listener, owners, self.observer, self.bind.address)
        except UsageError:
            return None  # workers have shut down this one, or every other
        self.steering.rejoin(slot, listener)
        return report

    @property
    def cookies(self) -> frozenset[int]:
        """Of every listener held here."""
        return frozenset(cookie(listener) for listener in self.sockets.values())

    def close(self) -> None:
        """Close every descriptor; listeners that workers have stay open there."""
        for listener in self.sockets.values():
            listener.close()
        self.sockets.clear()
        self.steering.close()
