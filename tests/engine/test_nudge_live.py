"""Waking servers that a migration did not wake, with the engine that migrates."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.waiting import PATIENCE

from segue.address import Address
from segue.engine.migrate import Migrate
from segue.engine.nudge import Nudge
from segue.errors import KernelError, UsageError
from segue.linux.sockopt import cookie, open_listener
from segue.observe.snapshot import Observer

pytestmark = [
    pytest.mark.root,
    pytest.mark.kernel("5.14"),
    pytest.mark.usefixtures("netns"),
]

HERE = Address("127.0.0.1", 8000)


class Dozing(threading.Thread):
    """A server by edge-triggered epoll that slept through the first call.

    That is what a defective kernel brings about: children in the queue, and nobody called.
    """

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(daemon=True)
        self.listener = listener
        self.asleep = threading.Event()
        self.stop_reader, self.stop_writer = socket.socketpair()
        self.accepted = 0

    def run(self) -> None:
        self.listener.setblocking(False)
        with select.epoll() as epoll:
            epoll.register(self.listener, select.EPOLLIN | select.EPOLLET)
            epoll.register(self.stop_reader, select.EPOLLIN)
            epoll.poll(0)
            self.asleep.set()
            while True:
                for fd, _ in epoll.poll():
                    if fd == self.stop_reader.fileno():
                        return
                    self._accept_all()

    def _accept_all(self) -> None:
        while True:
            try:
                self.listener.accept()[0].close()
            except BlockingIOError:
                return
            self.accepted += 1

    def close(self) -> None:
        self.stop_writer.close()
        self.join(PATIENCE)
        self.stop_reader.close()


class Servers:
    """Listeners under one engine; those of ``doze`` sleep upon what they have."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.engine = stack.enter_context(Migrate())
        self.observer = stack.enter_context(Observer())
        self.listeners: dict[int, socket.socket] = {}

    def open(self, count: int) -> None:
        for slot in range(count):
            self.listeners[slot] = self.stack.enter_context(open_listener(HERE, backlog=64))
            self.engine.join(slot, self.listeners[slot])

    def queue(self, slot: int, count: int) -> None:
        self.engine.share({slot: 1})
        for _ in range(count):
            made = socket.create_connection((HERE.host, HERE.port), timeout=PATIENCE)
            self.stack.enter_context(made)

    def doze(self, slot: int) -> Dozing:
        made = Dozing(self.listeners[slot])
        self.stack.callback(made.close)
        made.start()
        assert made.asleep.wait(PATIENCE)
        return made

    def cookies(self) -> dict[int, int]:
        """Of the listeners there are now, by slot."""
        return {slot: cookie(one) for slot, one in self.listeners.items()}

    def nudge(self) -> Nudge:
        made = Nudge(HERE, self.engine, self.observer, self.cookies, time.monotonic())
        self.stack.callback(made.close)
        return made

    def pinned(self) -> int:
        return len(list(self.engine._pins.keys()))


@pytest.fixture
def servers() -> Iterator[Servers]:
    """None yet."""
    with ExitStack() as stack:
        yield Servers(stack)


def play(nudge: Nudge) -> Nudge:
    """To its end, as a supervisor does, by the clock."""
    limit = time.monotonic() + PATIENCE
    while not nudge.step(time.monotonic()):
        assert time.monotonic() < limit
        select.select([], [], [], max(0.0, nudge.deadline() - time.monotonic()))
    return nudge


def test_servers_that_slept_through_a_migration_are_woken(servers: Servers) -> None:
    """Each by its own connection, though neither has a share; who has no queue is not called."""
    servers.open(3)
    servers.queue(0, 4)
    servers.queue(1, 7)
    first, second, third = (servers.doze(slot) for slot in range(3))
    servers.engine.share({2: 1})
    assert sum(servers.observer.queued(HERE).values()) == 11
    played = play(servers.nudge())
    assert (played.woken, played.waiting) == (2, 0)
    # One each; a second only if the server took longer than the pace to wake.
    assert 2 <= played.connects <= 6
    assert (first.accepted + second.accepted, third.accepted) == (11 + played.connects, 0)
    assert servers.pinned() == 0


def test_what_migrated_to_a_sleeper_is_served(servers: Servers) -> None:
    """A listener closes, its queue moves to one whose server hears nothing, and is nudged."""
    servers.open(2)
    servers.queue(0, 5)
    servers.engine.share({1: 1})
    servers.engine.leave(0, servers.listeners.pop(0))
    assert servers.observer.queued(HERE) == {cookie(servers.listeners[1]): 5}
    dozing = servers.doze(1)
    played = play(servers.nudge())
    assert played.waiting == 0
    assert dozing.accepted == 5 + played.connects


def test_a_server_that_hangs_is_let_alone_soon(servers: Servers) -> None:
    """A few connections more in its queue, and the count of those that wait."""
    servers.open(1)
    servers.queue(0, 3)
    nudge, now = servers.nudge(), 0.0
    nudge.started = now
    while not nudge.step(now):
        now = nudge.deadline()
    assert (nudge.connects, nudge.woken, nudge.waiting) == (6, 0, 3)
    assert servers.pinned() == 0


def test_nothing_waits_and_nothing_is_done(servers: Servers) -> None:
    """The first look is the last."""
    servers.open(2)
    nudge = servers.nudge()
    assert nudge.step(time.monotonic())
    assert (nudge.connects, nudge.woken, nudge.waiting) == (0, 0, 0)


class Refusing(Migrate):
    """An engine whose table of pins is full, or that has forgotten the slot."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def pin(self, port: int, slot: int) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error", [KernelError("bpf", 7, "pinning"), UsageError("slot 0 never joined")], ids=repr
)
def test_a_pin_that_is_refused_is_a_try_in_vain(servers: Servers, error: Exception) -> None:
    """No connection goes anywhere, and it ends as for a server that hangs."""
    servers.open(1)
    servers.queue(0, 3)
    with Refusing(error) as engine:
        nudge = Nudge(HERE, engine, servers.observer, servers.cookies, 0.0)
        now = 0.0
        while not nudge.step(now):
            now = nudge.deadline()
        assert (nudge.connects, nudge.woken, nudge.waiting) == (6, 0, 3)
        nudge.close()


def test_many_are_nudged_in_turns(servers: Servers) -> None:
    """No more at a time than pins are free, and everyone in the end."""
    servers.open(40)
    dozing = []
    for slot in range(40):
        servers.queue(slot, 1)
        dozing.append(servers.doze(slot))
    nudge = servers.nudge()
    assert not nudge.step(time.monotonic())
    assert servers.pinned() == nudge.connects == 32
    played = play(nudge)
    assert (played.woken, played.waiting) == (40, 0)
    assert sum(one.accepted for one in dozing) == 40 + played.connects
