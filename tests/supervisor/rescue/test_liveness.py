"""Questions to workers that serve: when, to whom, and what counts as a failure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from tests.supervisor.rescue.doubles import Counting, Knocking

from segue.supervisor.lifecycle.health import Failing
from segue.supervisor.lifecycle.instance import HeldListener, Instance, Worker
from segue.supervisor.lifecycle.plan import FOREVER
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.question import Question
from segue.supervisor.rescue.liveness import Liveness, Pace

EVERY, TIMEOUT = 8.0, 2.0


class Desk:
    """Serving workers, each with one listener; the time is the test's."""

    def __init__(self, workers: int = 1) -> None:
        self.instance = Instance(size=workers)
        for number in range(1, workers + 1):
            held = (HeldListener(0, number, 10 * number),)
            one = Worker(number, 1, 100 + number, 0.0, stage=Stage.SERVING, listeners=held)
            self.instance.workers[number] = one
        self.front, self.knocking, self.said = Counting(), Knocking(), list[str]()
        self.time = 100.0
        question, pace = Question.of("--live-http", "/live"), Pace(EVERY, TIMEOUT)
        self.liveness = Liveness(
            self.instance, (self.front,), question, pace, self.said.append, self.knocking
        )

    def step(self, *stalled: int, seconds: float = 0.0) -> None:
        self.time += seconds
        self.liveness.step(self.time, stalled)

    def ask(self, *stalled: int) -> None:
        """Until a question is due: a turn."""
        self.step(*stalled)
        self.step(*stalled, seconds=EVERY)

    @property
    def listener(self) -> HeldListener:
        return self.instance.workers[1].listeners[0]

    @property
    def failing(self) -> Failing | None:
        return self.liveness.failing.get(1)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.liveness.close()


def test_each_worker_is_asked_once_in_a_turn_and_not_all_at_once() -> None:
    """In four parts of the turn; answers are waited for briefly."""
    desk = Desk(4)
    desk.step()
    asked = [len(desk.knocking.made)]
    for _ in range(7):
        desk.step(seconds=EVERY / 8)
        desk.knocking.accept()
        asked.append(len(desk.knocking.made))
    assert asked[-1] == 4
    assert max(after - before for before, after in pairwise(asked)) == 1
    desk.step()
    assert desk.time < desk.liveness.due < FOREVER
    assert desk.front.ours == {1: 1, 2: 1, 3: 1, 4: 1}


def test_a_bad_answer_is_a_failure_and_is_said_once(desk: Desk) -> None:
    """A good one ends the row, and that is said too."""
    for times in (1, 2):
        desk.ask()
        desk.knocking.made[-1].failed = "GET /live was answered 500"
        desk.step(seconds=0.02)
        assert desk.failing == Failing(times, "GET /live was answered 500")
        assert desk.knocking.made[-1].closed
    assert desk.said == ["worker 1.1 (pid 101): GET /live was answered 500"]
    desk.ask()
    desk.knocking.accept()
    desk.step(seconds=0.02)
    assert desk.failing is None
    assert desk.said[1:] == ["worker 1.1 (pid 101): GET /live is answered well again"]


def test_an_answer_that_does_not_come_in_time_is_a_failure(desk: Desk) -> None:
    """The worker has accepted, so the question is over and the next one is asked in its turn."""
    desk.ask()
    desk.knocking.made[0].reached = True
    desk.step(seconds=TIMEOUT)
    assert desk.failing == Failing(1, "GET /live was not answered within 2 s")
    assert desk.knocking.made[0].closed
    desk.ask()
    assert len(desk.knocking.made) == 2


def test_a_question_that_was_not_accepted_waits_on_and_no_other_is_sent(desk: Desk) -> None:
    """It is known to wait there, so that it is no client; each turn is a failure."""
    desk.ask()
    assert desk.liveness.waiting(desk.listener) == 1
    desk.step(seconds=TIMEOUT)
    assert desk.failing == Failing(1, "GET /live was not accepted within 2 s", hangs=True)
    desk.ask()
    assert desk.failing == Failing(2, "GET /live has not been accepted for 10 s", hangs=True)
    assert len(desk.knocking.made) == 1
    assert desk.liveness.waiting(desk.listener) == 1
    desk.knocking.made[0].reached = True
    desk.step(seconds=0.2)
    assert desk.liveness.waiting(desk.listener) == 0
    desk.ask()
    assert len(desk.knocking.made) == 2


def test_a_stalled_worker_fails_unasked(desk: Desk) -> None:
    """Its queue is moved, and another worker would answer for it."""
    desk.ask(1)
    assert desk.failing == Failing(1, "it accepts nothing", hangs=True)
    assert desk.knocking.made == []
    desk.ask()
    desk.step(1, seconds=0.02)
    assert desk.failing == Failing(2, "it accepts nothing", hangs=True)
    assert desk.knocking.made[0].closed


def test_a_draining_worker_is_asked_nothing(desk: Desk) -> None:
    """What is open is closed, and its failures are forgotten."""
    desk.ask()
    desk.step(seconds=TIMEOUT)
    desk.instance.workers[1].stage = Stage.DRAINING
    desk.step()
    assert desk.knocking.made[0].closed
    assert desk.failing is None
    assert desk.liveness.due == FOREVER


def test_what_is_withdrawn_before_a_queue_moves_is_counted_if_it_waits(desk: Desk) -> None:
    """Once; and it is neither good nor bad."""
    desk.ask()
    assert desk.liveness.withdraw(1) == 1
    assert desk.liveness.withdraw(1) == 0
    desk.ask()
    desk.knocking.made[-1].reached = True
    assert desk.liveness.withdraw(1) == 0
    assert desk.failing is None


def test_without_a_question_nobody_is_asked() -> None:
    """And nothing is due."""
    instance = Desk().instance
    liveness = Liveness(instance, (), None, Pace(EVERY, TIMEOUT), print)
    liveness.step(100.0, ())
    assert liveness.due == FOREVER
