"""The one loop: order of events, signals, troubles said once, looks inside the wait."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest

from segue.errors import SegueError, UsageError
from segue.supervisor.loop import Looks, Loop, Rank


@dataclass
class Recorder:
    """A subject that writes down what is asked of it and is over after so many rounds."""

    rounds: int = 1
    until: float = 0.0
    looks: Sequence[Looks] = ()
    asked: list[str] = field(default_factory=list)
    on_tick: Callable[[], None] = lambda: None

    def over(self) -> bool:
        return self.asked.count("tick") >= self.rounds

    def settle(self) -> None:
        self.asked.append("settle")

    def deadline(self) -> float:
        return self.until

    def tick(self) -> None:
        self.asked.append("tick")
        self.on_tick()


@dataclass
class Looking:
    """Looks that find something at the last of ``due_at``."""

    due_at: list[float]
    found: bool = False
    prepared: int = 0
    doing: str = "looking for stalls"

    @property
    def due(self) -> float:
        return self.due_at[0] if self.due_at else math.inf

    def prepare(self) -> None:
        self.prepared += 1

    def look(self) -> None:
        self.due_at.pop(0)
        self.found = not self.due_at


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def loop(said: list[str]) -> Iterator[Loop]:
    made = Loop(said.append)
    yield made
    made.close()


@pytest.fixture
def readable() -> Iterator[Callable[[], int]]:
    """Makes descriptors that can be read."""
    opened: list[int] = []

    def make() -> int:
        reader, writer = os.pipe()
        opened.extend((reader, writer))
        os.write(writer, b"x")
        return reader

    yield make
    for one in opened:
        os.close(one)


def test_a_subject_is_settled_then_ticks_until_it_is_over(loop: Loop) -> None:
    """What follows from events is done before each wait, and once more before the end."""
    subject = Recorder(rounds=2)
    loop.run(subject)
    assert subject.asked == ["settle", "tick", "settle", "tick", "settle"]


def test_events_of_one_round_are_handled_by_rank(loop: Loop, readable: Callable[[], int]) -> None:
    """Whatever the order in which the kernel shows them; what says nothing is a client's."""
    order: list[str] = []
    for rank in reversed(Rank):
        loop.watch(readable(), partial(order.append, rank.name), rank)
    loop.watch(readable(), partial(order.append, "ASKED"))
    loop.run(Recorder())
    assert order == ["SIGNAL", "ENDED", "ASKED", "ASKED", "NOTIFIED"]


def test_an_event_can_end_what_another_is_about(loop: Loop, readable: Callable[[], int]) -> None:
    """A file that an earlier event of the round took away is not served any more."""
    served: list[str] = []
    one, other = readable(), readable()

    def take_away() -> None:
        served.append("first")
        loop.unwatch(other)

    loop.watch(one, take_away, Rank.SIGNAL)
    loop.watch(other, lambda: served.append("other"))
    loop.run(Recorder())
    assert served == ["first"]


def test_unwatching_twice_is_no_error(loop: Loop, readable: Callable[[], int]) -> None:
    """Whoever ends something need not know whether it was watched."""
    file = readable()
    loop.watch(file, lambda: None)
    loop.unwatch(file)
    loop.unwatch(file)


def test_a_trouble_is_said_once_until_it_is_over(loop: Loop, said: list[str]) -> None:
    """The same refusal a hundred times is one line; after a success it is news again."""

    def refused() -> None:
        raise SegueError("no room")

    for _ in range(3):
        assert not loop.attempt("writing", refused)
    assert loop.attempt("writing", lambda: None)
    assert not loop.attempt("writing", refused)
    assert said == ["writing: no room", "writing: no room"]


def test_two_troubles_are_each_said_once(loop: Loop, said: list[str]) -> None:
    """Alternating refusals do not make each other news."""

    def refused() -> None:
        raise OSError(24, "Too many open files")

    for _ in range(3):
        loop.attempt("this", refused)
        loop.attempt("that", refused)
    assert len(said) == 2


def test_a_bug_is_not_swallowed(loop: Loop) -> None:
    """Only what the kernel or an order refuses is tried again."""
    with pytest.raises(ZeroDivisionError):
        loop.attempt("dividing", lambda: 1 // 0)


def test_events_and_ticks_that_are_refused_do_not_end_the_loop(
    loop: Loop, said: list[str], readable: Callable[[], int]
) -> None:
    """Whatever is refused in a round, the next one comes."""

    def refused() -> None:
        raise SegueError("refused")

    loop.watch(readable(), refused)
    subject = Recorder(rounds=3, on_tick=refused)
    loop.run(subject)
    assert subject.asked.count("tick") == 3
    assert said == ["an event: refused", "looking around: refused"]


def test_signals_are_handled_in_the_loop(loop: Loop, said: list[str]) -> None:
    """A handler hears the signal's number; one that refuses is said, and holds no other up."""
    heard: list[int] = []

    def refuse(number: int) -> None:
        raise UsageError("not now") if number == signal.SIGUSR2 else PermissionError(1, "no")

    asked = (signal.SIGHUP, signal.SIGUSR2, signal.SIGUSR1)
    before = {one: signal.getsignal(one) for one in asked}
    try:
        loop.on_signals(dict.fromkeys(asked, refuse) | {signal.SIGUSR1: heard.append})
        for one in asked:
            os.kill(os.getpid(), one)
        loop.run(Recorder())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert heard == [signal.SIGUSR1]
    assert said == [
        "SIGHUP is not followed: [Errno 1] no",
        "SIGUSR2 is not followed: not now",
    ]


def test_looks_go_round_within_one_wait_until_one_finds_something() -> None:
    """Many looks cost one round only, and what one finds ends the wait at once."""
    ticking = iter(range(1000))
    loop = Loop(lambda _: None, now=lambda: next(ticking) / 1000)
    looking = Looking([0.0, 0.001, 0.002])
    subject = Recorder(until=math.inf, looks=[looking])
    loop.run(subject)
    loop.close()
    assert looking.prepared == 1
    assert looking.found
    assert subject.asked == ["settle", "tick", "settle"]


def test_each_of_several_looks_is_made_when_it_is_due(said: list[str]) -> None:
    """Whatever is refused to another one, and any of them ends the wait."""
    ticking = iter(range(1000))
    loop = Loop(said.append, now=lambda: next(ticking) / 1000)

    class Refused(Looking):
        """The kernel says no."""

        def look(self) -> None:
            super().look()
            raise UsageError("no room")

    often, seldom = Refused([0.0, 0.001, math.inf], doing="listing"), Looking([0.002])
    subject = Recorder(until=math.inf, looks=[often, seldom])
    loop.run(subject)
    loop.close()
    assert often.due_at == [math.inf]
    assert seldom.found
    assert subject.asked == ["settle", "tick", "settle"]
    assert said == ["listing: no room"]


def test_no_looks_are_made_before_they_are_due() -> None:
    """A deadline ends the wait although the next look is never due."""
    ticking = iter(range(1000))
    loop = Loop(lambda _: None, now=lambda: next(ticking) / 1000)
    looking = Looking([])
    loop.run(Recorder(until=0.0, looks=[looking]))
    loop.close()
    assert not looking.found
