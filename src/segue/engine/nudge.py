"""Wake a listener to which connections were migrated, on a kernel that does not (CVE-2026-46015).

Such a kernel puts the child into the accept queue and calls nobody.  A new connection to the same
listener does call, and a server that accepts one accepts all.  So short connections are steered to
each listener that has a queue until it has none; how often, and in vain, is counted.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from segue.address import Address
from segue.engine.steering import Steering
from segue.linux.sockopt import cookie, socket_address
from segue.observe.snapshot import Observer

_TRIES = 50  # per listener; a server that accepts one at a time needs one for each
_PACE_SECONDS = 0.02
_LIMIT_SECONDS = 5.0


@dataclass(slots=True)
class Nudge:
    """Connections to the listeners of one group until their queues are empty or it is too much."""

    address: Address
    steering: Steering
    observer: Observer
    listeners: Mapping[int, socket.socket]  # by slot
    started: float
    connects: int = 0
    waiting: int = 0  # children in the queues at the last look
    _tries: dict[int, int] = field(default_factory=dict)
    _open: list[socket.socket] = field(default_factory=list)
    _next: float = 0.0

    def step(self, now: float) -> bool:
        """Look and knock once if it is time; True when there is nothing left to do."""
        if now < self._next:
            return False
        self._hang_up()
        group = self.observer.snapshot(self.address)
        queues = {
            slot: seen.queue
            for slot, one in self.listeners.items()
            if (seen := group.by_cookie(cookie(one))) is not None
        }
        self.waiting = sum(queues.values())
        deaf = [slot for slot, queue in queues.items() if queue]
        able = [slot for slot in deaf if self._tries.get(slot, 0) < _TRIES]
        if not able or now > self.started + _LIMIT_SECONDS:
            return True
        for slot in able:
            self._knock(slot)
        self._next = now + _PACE_SECONDS
        return False

    def deadline(self) -> float:
        """When ``step`` next wants the time."""
        return self._next

    def _knock(self, slot: int) -> None:
        self._tries[slot] = self._tries.get(slot, 0) + 1
        self.connects += 1
        made = socket.socket(self.address.family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._open.append(made)
        made.setblocking(False)
        near = self.address.near
        made.bind(socket_address(self.address, near, 0))
        port = made.getsockname()[1]
        self.steering.pin(port, slot)
        try:
            # Over loopback the SYN has chosen its listener when this returns.
            made.connect_ex(socket_address(self.address, near, self.address.port))
        finally:
            self.steering.unpin(port)

    def _hang_up(self) -> None:
        for one in self._open:
            one.close()
        self._open.clear()

    def close(self) -> None:
        """Close what is open."""
        self._hang_up()
