"""Waking listeners by short connections, with a clock that the test turns."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from tests.waiting import PATIENCE

from segue.address import Address
from segue.engine.drain import Drain
from segue.engine.nudge import Nudge
from segue.linux.sockopt import cookie, open_listener
from segue.observe.snapshot import Observer

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("netns")]

HERE = Address("127.0.0.1", 8000)
START = 1000.0


class Sleepers:
    """Listeners whose owners accept only when a new connection wakes them."""

    def __init__(self, address: Address, count: int, backlog: int) -> None:
        self.address = address
        self.steering, self.observer = Drain(), Observer()
        self.listeners = {slot: open_listener(address, backlog=backlog) for slot in range(count)}
        self.clients: list[socket.socket] = []
        for slot, listener in self.listeners.items():
            listener.setblocking(False)
            self.steering.join(slot, listener)

    def cookies(self) -> dict[int, int]:
        """Of the listeners there are now, by slot."""
        return {slot: cookie(one) for slot, one in self.listeners.items()}

    def queue(self, slot: int, count: int) -> None:
        """Connections wait here, and nobody was woken."""
        self.steering.share({slot: 1.0})
        where = (self.address.host, self.address.port)
        self.clients += [socket.create_connection(where, timeout=PATIENCE) for _ in range(count)]

    def queues(self) -> list[int]:
        group = self.observer.snapshot(self.address)
        seen = (group.by_cookie(cookie(one)) for one in self.listeners.values())
        return [one.queue if one else -1 for one in seen]

    def wake(self, before: list[int], *, at_once: bool) -> None:
        """Whose queue has grown was woken: it accepts all, or as many as it was woken for."""
        now = self.queues()
        for slot, listener in self.listeners.items():
            grown = now[slot] - before[slot]
            # One that takes a single connection takes the oldest, not the one that woke it.
            for _ in range((now[slot] if at_once else 2) if grown > 0 else 0):
                with contextlib.suppress(BlockingIOError):
                    listener.accept()[0].close()

    def close(self) -> None:
        for one in [*self.clients, *self.listeners.values()]:
            one.close()
        self.steering.close()
        self.observer.close()


@contextlib.contextmanager
def sleepers(count: int, address: Address = HERE, backlog: int = 200) -> Iterator[Sleepers]:
    made = Sleepers(address, count, backlog)
    with contextlib.closing(made):
        yield made


def nudged(group: Sleepers) -> Nudge:
    return Nudge(group.address, group.steering, group.observer, group.cookies, START)


@pytest.mark.parametrize("address", [HERE, Address("::", 8000)], ids=str)
def test_a_listener_that_has_a_queue_is_woken(address: Address) -> None:
    """By one connection, though it has no share; who has none is left in peace."""
    with sleepers(3, address) as group:
        group.queue(1, 5)
        group.steering.share({2: 1.0})
        nudge = nudged(group)
        before = group.queues()
        assert before == [0, 5, 0]
        assert not nudge.step(START)
        assert group.queues() == [0, 6, 0]
        group.wake(before, at_once=True)
        assert nudge.deadline() > START
        assert nudge.step(nudge.deadline())
        assert (nudge.connects, nudge.waiting) == (1, 0)
        nudge.close()


def test_one_that_accepts_a_few_is_woken_again() -> None:
    """Until it has accepted what was there before us; what is left then is ours."""
    with sleepers(2) as group:
        group.queue(0, 6)
        nudge = nudged(group)
        before, now = group.queues(), START
        while not nudge.step(now):
            group.wake(before, at_once=False)
            before, now = group.queues(), nudge.deadline()
        assert group.queues() == [2, 0]
        assert (nudge.connects, nudge.waiting) == (4, 0)
        nudge.close()


def accept(listener: socket.socket, count: int) -> None:
    for _ in range(count):
        listener.accept()[0].close()


def test_one_that_is_awake_and_slow_is_left_alone() -> None:
    """It takes one connection between two looks: it was woken once, and needs no more."""
    with sleepers(1) as group:
        group.queue(0, 9)
        nudge = nudged(group)
        now, takes = START, 2
        while not nudge.step(now):
            accept(group.listeners[0], takes)
            now, takes = nudge.deadline(), 1
        assert (nudge.connects, nudge.woken, nudge.waiting) == (1, 1, 0)
        nudge.close()


def test_one_that_wakes_late_gets_all_its_tries_again() -> None:
    """Three in vain, then it accepts some, then it sleeps again: six more."""
    with sleepers(1) as group:
        group.queue(0, 9)
        nudge = nudged(group)
        now = START
        while nudge.connects < 3:
            assert not nudge.step(now)
            now = nudge.deadline()
        accept(group.listeners[0], 6)
        while not nudge.step(now):
            now = nudge.deadline()
        assert (nudge.connects, nudge.woken, nudge.waiting) == (9, 0, 3)
        nudge.close()


def busy(group: Sleepers, nudge: Nudge, now: float) -> float:
    """As many come between two looks as are accepted, until the nudge ends; when that is."""
    while not nudge.step(now):
        group.queue(0, 5)
        accept(group.listeners[0], 5)
        now = nudge.deadline()
    return now


@pytest.mark.parametrize("queued", [3, 30], ids=["quick", "slow"])
def test_one_that_is_busy_is_no_sleeper(queued: int) -> None:
    """Its queue is there at every look and never shrinks, but the knock is accepted in its turn."""
    with sleepers(1) as group:
        group.queue(0, queued)
        nudge = nudged(group)
        ended = busy(group, nudge, START)
        assert group.queues() == [queued + nudge.connects]
        assert (nudge.woken, nudge.waiting) == (1, 0)
        assert ended < START + 5
        nudge.close()


def test_one_that_was_awake_is_asked_again_when_more_migrates() -> None:
    """A knock that was accepted proves nothing of what came to the queue after it."""
    with sleepers(1) as group:
        group.queue(0, 3)
        nudge = nudged(group)
        now = busy(group, nudge, START)
        assert nudge.step(now + 1)
        before = nudge.connects
        nudge.again(now + 2)
        assert not nudge.step(now + 2)
        assert nudge.connects == before + 1
        nudge.close()


def test_it_keeps_its_pace() -> None:
    """Before its deadline a step does nothing at all."""
    with sleepers(2) as group:
        group.queue(0, 1)
        nudge = nudged(group)
        assert not nudge.step(START)
        assert not nudge.step(START + 0.001)
        assert nudge.connects == 1
        assert not nudge.step(nudge.deadline())
        assert nudge.connects == 2
        nudge.close()


def test_it_gives_up_when_nobody_accepts() -> None:
    """Six tries, ever further apart; after five seconds it says how many wait."""
    with sleepers(2) as group:
        group.queue(0, 3)
        nudge = nudged(group)
        now = START
        while not nudge.step(now):
            assert nudge.connects <= 6
            now = nudge.deadline()
        assert 5 < now - START < 6
        assert (nudge.connects, nudge.woken, nudge.waiting) == (6, 0, 3)
        assert group.queues()[0] == 9
        nudge.close()


def test_an_owner_that_accepts_late_is_no_sleeper() -> None:
    """After all tries were made it is still looked at, and nothing is said of it."""
    with sleepers(1) as group:
        group.queue(0, 3)
        nudge = nudged(group)
        now = START
        while now < START + 3:
            assert not nudge.step(now)
            now = nudge.deadline()
        accept(group.listeners[0], 4)
        assert nudge.step(now)
        assert (nudge.connects, nudge.woken, nudge.waiting) == (6, 1, 0)
        nudge.close()


def test_it_gives_up_when_the_time_is_over() -> None:
    """With the queue as it is, and without another connection."""
    with sleepers(2) as group:
        group.queue(0, 3)
        nudge = nudged(group)
        assert not nudge.step(START)
        assert nudge.step(START + 60)
        assert nudge.connects == 1
        assert nudge.waiting == 3
        nudge.close()


def test_a_listener_that_is_gone_is_none_to_wake() -> None:
    """What it had is not waiting there any more."""
    with sleepers(2) as group:
        group.queue(0, 3)
        nudge = nudged(group)
        group.listeners[0].shutdown(socket.SHUT_RDWR)
        assert nudge.step(START)
        assert (nudge.connects, nudge.waiting) == (0, 0)
        nudge.close()
