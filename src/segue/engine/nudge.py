"""Wake a listener to which connections were migrated, on a kernel that does not (CVE-2026-46015).

Such a kernel puts the child into the accept queue and wakes no process.  A new connection to the
same listener does wake one, and a server that accepts one connection accepts all.  So short
connections are steered to each listener that has a queue, until the queue is empty.  They are
counted, and so are those that woke no process.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from segue.address import Address
from segue.engine.steering import Steering
from segue.errors import SegueError
from segue.linux.sockopt import near, socket_address
from segue.observe.snapshot import Observer

# One connection wakes every process that can be woken; the others replace a SYN that was dropped or
# went elsewhere.  A listener whose owner hangs must not have its queue filled by us.
_TRIES = 6
_AT_ONCE = 32  # half of the pins that a steering may have; readiness is proven by pins too
_PACE_SECONDS = 0.02  # the first wait for an owner to accept; each one in vain doubles it
_LIMIT_SECONDS = 5.0


@dataclass(slots=True)
class _Deaf:
    """A listener with a queue, from one look to the next."""

    queue: int
    vain: int = 0  # connections since its queue last shrank
    due: float = 0.0


@dataclass(slots=True)
class Nudge:
    """Connections to the listeners of one group until their queues are empty or it is too much.

    A machine: ``step`` at or after ``deadline``, until it returns True.  It takes five seconds at
    most.  ``cookies`` is asked at each look, since listeners come and go meanwhile.
    """

    address: Address
    steering: Steering
    observer: Observer
    cookies: Callable[[], Mapping[int, int]]  # of the group's listeners now, by slot
    started: float
    connects: int = 0  # short connections made
    woken: int = 0  # times that a listener's queue was there and then was not
    waiting: int = 0  # children in the queues at the last look
    _deaf: dict[int, _Deaf] = field(default_factory=dict)
    _open: list[tuple[socket.socket, int]] = field(default_factory=list)
    _next: float = 0.0

    def step(self, now: float) -> bool:
        """Look and knock if it is time; True when there is nothing left to do.

        A listener that refuses to be knocked at counts as one that did not wake.  Raises
        KernelError when the queues cannot be looked at.
        """
        if now < self._next:
            return False
        self._hang_up()
        queues = self._queues()
        self.waiting = sum(queues.values())
        self.woken += sum(slot in queues and not queues[slot] for slot in self._deaf)
        self._deaf = {slot: self._seen(slot, queue, now) for slot, queue in queues.items() if queue}
        due = [slot for slot, one in self._deaf.items() if now >= one.due and one.vain < _TRIES]
        hoped = [one for one in self._deaf.values() if now < one.due]
        if now > self.started + _LIMIT_SECONDS or not (due or hoped):
            return True
        for slot in due[:_AT_ONCE]:
            one = self._deaf[slot]
            one.due = now + _PACE_SECONDS * 2**one.vain
            one.vain += 1
            self._knock(slot)
        self._next = now + _PACE_SECONDS
        return False

    def deadline(self) -> float:
        """When ``step`` next wants the time."""
        return self._next

    def _queues(self) -> dict[int, int]:
        queues = self.observer.queued(self.address)
        return {slot: queues[one] for slot, one in self.cookies().items() if one in queues}

    def _seen(self, slot: int, queue: int, now: float) -> _Deaf:
        one = self._deaf.get(slot)
        if one is None:
            return _Deaf(queue)
        if queue < one.queue:
            # A worker that accepts is awake, however slow: look again, and leave it alone.
            one.vain, one.due = 0, now + _PACE_SECONDS
        one.queue = queue
        return one

    def _knock(self, slot: int) -> None:
        self.connects += 1
        host = near(self.address)
        made = socket.socket(self.address.family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._open.append((made, 0))
        made.setblocking(False)
        with contextlib.suppress(SegueError, OSError):
            made.bind(socket_address(self.address, host, 0))
            port = made.getsockname()[1]
            self.steering.pin(port, slot)
            # Until it is hung up: over loopback the SYN is mostly there when connect() returns.
            self._open[-1] = (made, port)
            made.connect_ex(socket_address(self.address, host, self.address.port))

    def _hang_up(self) -> None:
        for made, port in self._open:
            if port:
                with contextlib.suppress(SegueError):
                    self.steering.unpin(port)
            made.close()
        self._open.clear()

    def close(self) -> None:
        """Hang up and forget every pin; twice is no error."""
        self._hang_up()
