"""What is gathered for the balance: looks, counters, and stalls, by a clock of the test's own."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest

from segue.supervisor.front import Front
from segue.supervisor.lifecycle.health import Stall
from segue.supervisor.lifecycle.instance import HeldListener, Instance, Worker
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.rescue.balancing import Balancing

LOOK = 0.01


class Counting(Front):
    """A front whose counters the test turns; its sockets have empty queues."""

    def __init__(self, listeners: list[socket.socket]) -> None:
        self.sockets = dict(enumerate(listeners))
        self.new = dict.fromkeys(self.sockets, 0.0)

    def selected(self, slot: int) -> int:
        return round(self.new[slot])


class Desk:
    """Three workers of a generation, what has befallen them, and time."""

    def __init__(self, listeners: list[socket.socket]) -> None:
        self.now = 0.0
        self.stalls: dict[int, Stall] = {}
        self.diverted: Counter[int] = Counter()
        self.instance = Instance(size=len(listeners))
        for slot in range(len(listeners)):
            holds = (HeldListener(0, slot, slot),)
            self.instance.workers[slot] = Worker(
                slot, 1, 100 + slot, 0.0, stage=Stage.SERVING, listeners=holds
            )
        self.front = Counting(listeners)
        self.balancing = Balancing(self.instance, [self.front])
        self.step()

    def step(self) -> None:
        self.balancing.step(self.now, self.stalls, lambda worker: self.diverted[worker])

    def pass_time(
        self, seconds: float, rates: Mapping[int, float], waiting: Mapping[int, int]
    ) -> None:
        """Looks that all see the same, and a turn of the runner at the end."""
        for _ in range(round(seconds / LOOK)):
            self.now += LOOK
            for slot, rate in rates.items():
                self.front.new[slot] += rate * LOOK
            self.balancing.saw(self.now, LOOK, waiting, self.stalls)
        self.step()


@pytest.fixture
def desk() -> Iterator[Desk]:
    """Sockets with empty queues: what waits at the workers the test says itself."""
    listeners = [socket.socket() for _ in range(3)]
    yield Desk(listeners)
    for one in listeners:
        one.close()


CALM = {0: 30.0, 1: 100.0, 2: 100.0}


def test_a_queue_that_does_not_empty_lowers_the_weight(desk: Desk) -> None:
    """One refill a window, no earlier than when it is full."""
    desk.pass_time(0.5, CALM, {0: 20})
    assert desk.instance.balance == {}
    desk.pass_time(0.5, CALM, {0: 20})
    assert desk.instance.balance[0] < 0.6
    assert sum(desk.instance.balance.values()) == pytest.approx(3)


def test_short_stalls_are_time_in_which_it_was_busy(desk: Desk) -> None:
    """And what was moved away then, and our own knocks, it has not accepted."""
    for _ in range(3):
        for _ in range(4):
            desk.stalls[0] = Stall(desk.now)
            desk.diverted[0] += 16 + 2
            desk.pass_time(0.24, CALM | {0: 100.0}, {})
            desk.stalls.clear()
            desk.pass_time(0.02, CALM | {0: 100.0}, {})
    assert desk.instance.balance[0] < 0.6


def test_a_long_stall_says_nothing_of_how_slow_it_is(desk: Desk) -> None:
    """While it lasts no weight changes, and what was gathered until then is dropped."""
    desk.pass_time(0.8, CALM, {0: 20})
    desk.stalls[0] = Stall(desk.now)
    desk.pass_time(3.0, CALM, {})
    assert desk.instance.balance == {}
    desk.stalls.clear()
    desk.pass_time(0.5, CALM | {0: 100.0}, {})
    assert desk.instance.balance == {}
    desk.pass_time(1.0, CALM | {0: 100.0}, {})
    assert desk.instance.balance == {0: 1.0, 1: 1.0, 2: 1.0}


def test_no_weight_changes_while_one_stalls(desk: Desk) -> None:
    """So that it gets the very entries of the table back; the refill comes when it is over."""
    desk.pass_time(0.8, CALM, {0: 20})
    desk.stalls[0] = Stall(desk.now)
    desk.pass_time(0.2, CALM, {0: 20})
    assert desk.instance.balance == {}
    desk.stalls.clear()
    desk.pass_time(LOOK, CALM, {0: 20})
    assert desk.instance.balance[0] < 0.6


def test_only_siblings_are_compared(desk: Desk) -> None:
    """A canary's worker that has a tenth of the connections is not slow for that."""
    desk.instance.workers[0].generation = 2
    desk.pass_time(1.0, {0: 10.0, 1: 100.0, 2: 100.0}, {0: 5})
    assert desk.instance.balance == {0: 1.0, 1: 1.0, 2: 1.0}
