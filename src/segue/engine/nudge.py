"""Wake a listener to which connections were migrated, on a kernel that does not (CVE-2026-46015).

Such a kernel puts the child into the accept queue and wakes no process.  A new connection to the
same listener does wake one, and a server that accepts one connection accepts all.  So short
connections are steered to each listener that has a queue, until the queue is empty or one of them
is accepted: a queue is first in, first out, so what had migrated was accepted too.  They are
counted, and so are the clients of listeners whose owners accepted nothing.
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
_LATE_PACE_SECONDS = 0.25  # between looks when all tries were made
_LIMIT_SECONDS = 5.0


@dataclass(slots=True)
class _Deaf:
    """A listener with a queue, from one look to the next."""

    queue: int
    vain: int = 0  # connections since its owner was last seen to accept
    due: float = 0.0
    accepts: bool = False  # its owner was seen to accept
    knocks: list[int] = field(default_factory=list)  # source ports of those not accepted yet
    heard: bool = False  # one of those was accepted, and so all that was there before

    @property
    def hangs(self) -> bool:
        """Its owner accepted nothing, or nothing any more for as long as we tried."""
        return not self.accepts or self.vain >= _TRIES


@dataclass(slots=True)
class Nudge:
    """Connections to the listeners of one group until their owners have accepted what migrated.

    A machine: ``step`` at or after ``deadline``, until it returns True.  It takes five seconds at
    most.  ``cookies`` is asked at each look, since listeners come and go meanwhile.
    """

    address: Address
    steering: Steering
    observer: Observer
    cookies: Callable[[], Mapping[int, int]]  # of the group's listeners now, by slot
    started: float
    connects: int = 0  # short connections made
    woken: int = 0  # listeners that had a queue, and were found empty or accepting
    waiting: int = 0  # clients in the queues of listeners that accept nothing
    _deaf: dict[int, _Deaf] = field(default_factory=dict)
    _awake: set[int] = field(default_factory=set)
    _open: list[tuple[socket.socket, int, int]] = field(default_factory=list)
    _next: float = 0.0

    def again(self, now: float) -> None:
        """More connections migrated: what was accepted before now proves nothing of them."""
        self.started = now
        self._hang_up()
        self._awake.clear()
        for one in self._deaf.values():
            one.knocks.clear()

    def step(self, now: float) -> bool:
        """Look and knock if it is time; True when there is nothing left to do.

        A listener that refuses to be knocked at counts as one that did not wake.  Raises
        KernelError when the queues cannot be looked at.
        """
        if now < self._next:
            return False
        self._hang_up()
        before, self._deaf = self._deaf, {}
        for slot, queue in self._queues().items():
            if slot in self._awake or not (queue or slot in before):
                continue
            seen = self._seen(before.get(slot), queue, now)
            if queue and not seen.heard:
                self._deaf[slot] = seen
            else:
                # What it has now came later, by connections that wake it.
                self.woken += 1
                self._awake.update([slot] if queue else [])
        self.waiting = sum(one.queue - len(one.knocks) for one in self._deaf.values() if one.hangs)
        # An owner that is short of a processor accepts late: only the limit says that it will not.
        if now > self.started + _LIMIT_SECONDS or not self._deaf:
            return True
        due = [slot for slot, one in self._deaf.items() if now >= one.due and one.vain < _TRIES]
        for slot in due[:_AT_ONCE]:
            one = self._deaf[slot]
            one.due = now + _PACE_SECONDS * 2**one.vain
            one.vain += 1
            self._knock(slot)
        hoped = any(now < one.due for one in self._deaf.values())
        self._next = now + (_PACE_SECONDS if hoped else _LATE_PACE_SECONDS)
        return False

    def deadline(self) -> float:
        """When ``step`` next wants the time."""
        return self._next

    def _queues(self) -> dict[int, int]:
        queues = self.observer.queued(self.address)
        return {slot: queues[one] for slot, one in self.cookies().items() if one in queues}

    def _seen(self, one: _Deaf | None, queue: int, now: float) -> _Deaf:
        if one is None:
            return _Deaf(queue)
        address, host = self.address, near(self.address)
        waiting = [port for port in one.knocks if not self.observer.accepted(address, host, port)]
        one.heard = len(waiting) < len(one.knocks)
        if queue < one.queue:
            # A worker that accepts is awake, however slow: look again, and leave it alone.
            one.accepts, one.vain, one.due = True, 0, now + _PACE_SECONDS
        one.queue, one.knocks = queue, waiting
        return one

    def _knock(self, slot: int) -> None:
        self.connects += 1
        host = near(self.address)
        made = socket.socket(self.address.family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._open.append((made, 0, slot))
        made.setblocking(False)
        with contextlib.suppress(SegueError, OSError):
            made.bind(socket_address(self.address, host, 0))
            port = made.getsockname()[1]
            self.steering.pin(port, slot)
            # Until it is hung up: over loopback the SYN is mostly there when connect() returns.
            self._open[-1] = (made, port, slot)
            made.connect_ex(socket_address(self.address, host, self.address.port))

    def _hang_up(self) -> None:
        for made, port, slot in self._open:
            if port:
                with contextlib.suppress(SegueError):
                    self.steering.unpin(port)
            # One that did not get through, as at a full queue, is never accepted.
            if slot in self._deaf and _connected(made):
                self._deaf[slot].knocks.append(port)
            made.close()
        self._open.clear()

    def close(self) -> None:
        """Hang up and forget every pin; twice is no error."""
        self._hang_up()


def _connected(made: socket.socket) -> bool:
    try:
        made.getpeername()
    except OSError:
        return False
    return True
