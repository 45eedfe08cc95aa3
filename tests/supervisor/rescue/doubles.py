"""What rescue works on, as far as its decisions know it: queues, counters, knocks and a loop.

The listeners are socket pairs: real ones for epoll, readable while something waits there.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from segue.errors import KernelError
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.instance import HeldListener
from segue.supervisor.rescue.watched import Depth, WatchedWorker
from segue.supervisor.workers.readiness import Knock

PATIENCE = 1 / 32
BACKLOG = 16


def worker(number: int, listeners: int = 1, *, shares: bool = True) -> WatchedWorker:
    """A worker with a listener at so many addresses; its slot is its number everywhere."""
    held = tuple(HeldListener(bind, number, 10 * number + bind) for bind in range(listeners))
    return WatchedWorker(number, f"worker 1.{number}", held, shares)


class Knocked(Knock):
    """A knock that the test has accepted or refused."""

    def __init__(self, at: HeldListener, now: float) -> None:
        self.at, self.since = at, now
        self.accepted, self.failed, self.closed, self.reached = False, "", False, False

    def step(self, now: float) -> bool:
        return self.accepted

    def close(self) -> None:
        self.closed = True


class Knocking:
    """Makes knocks and keeps them."""

    def __init__(self) -> None:
        self.made: list[Knocked] = []
        self.refuse_after: int | None = None

    def __call__(self, at: HeldListener, now: float) -> Knocked:
        if self.refuse_after is not None and len(self.made) >= self.refuse_after:
            raise KernelError("bind", errno.EADDRNOTAVAIL, "knocking")
        self.made.append(Knocked(at, now))
        return self.made[-1]

    def accept(self) -> None:
        for one in self.made:
            one.accepted = True


class Counting(Front):
    """The counters of one address."""

    def __init__(self) -> None:
        self.counted: Counter[int] = Counter()
        self.ours = Counter()
        self.requests = 0

    @property
    def counting(self) -> bool:
        return True

    def selected(self, slot: int) -> int:
        return self.counted[slot]

    def half_open(self) -> int:
        return self.requests


class World:
    """A ``Watched`` and a ``Loop`` that the test turns; records what it is asked for."""

    def __init__(self, *workers: WatchedWorker) -> None:
        self.workers = {one.id: one for one in workers}
        self.sharing = set(self.workers)
        self.queues: Counter[int] = Counter()  # by cookie
        self.pairs = {at.cookie: socket.socketpair() for one in workers for at in one.listeners}
        self.fronts = [Counting() for _ in range(2)]
        self.time = 100.0
        self.handlers: dict[int, Callable[[], None]] = {}
        self.said: list[str] = []
        self.refuses = False
        self.looks = 0

    # As a Loop

    def now(self) -> float:
        return self.time

    def watch(self, file: Any, handler: Callable[[], None]) -> None:
        self.handlers[file.fileno()] = handler

    def unwatch(self, file: Any) -> None:
        del self.handlers[file.fileno()]

    # As a Watched

    def watched(self) -> list[WatchedWorker]:
        return list(self.workers.values())

    def worker(self, number: int) -> WatchedWorker:
        return self.workers[number]

    def processes(self, number: int) -> tuple[int, ...]:
        return ()

    def open(self, listener: HeldListener) -> socket.socket | None:
        if self.refuses:
            raise KernelError("dup", errno.EMFILE, "looking after a listener")
        return self.pairs[listener.cookie][0].dup()

    def look(self) -> None:
        self.looks += 1

    def depth(self, listener: HeldListener) -> Depth:
        return Depth(self.queues[listener.cookie], BACKLOG)

    def shared(self, bind: int) -> Collection[int]:
        return self.sharing

    # As the test

    def arrive(self, listener: HeldListener, count: int = 1) -> None:
        """So many connections are selected for this listener and wait there."""
        self.fronts[listener.bind].counted[listener.slot] += count
        self.set_queue(listener, self.queues[listener.cookie] + count)

    def set_queue(self, listener: HeldListener, count: int) -> None:
        """So many wait there."""
        ours, peer = self.pairs[listener.cookie]
        if count and not self.queues[listener.cookie]:
            peer.send(b"x")
        elif self.queues[listener.cookie] and not count:
            ours.recv(1)
        self.queues[listener.cookie] = count

    def close(self) -> None:
        for pair in self.pairs.values():
            for one in pair:
                one.close()
