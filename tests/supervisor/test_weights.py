"""When workers with the lowest weight are looked at again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from segue.supervisor.lifecycle.instance import Worker
from segue.supervisor.workers.groups import Groups
from segue.supervisor.workers.weights import Weights

LIMIT = 10.0


@pytest.fixture
def nicest() -> Iterator[int]:
    """A process that has the lowest weight and is stopped, so that it waits for no processor."""
    stop = "import os, signal; os.nice(19); os.kill(os.getpid(), signal.SIGSTOP)"
    with subprocess.Popen([sys.executable, "-c", stop]) as one:
        os.waitid(os.P_PID, one.pid, os.WSTOPPED)
        yield one.pid
        one.kill()


def test_a_look_that_was_held_up_is_made_again_soon(nicest: int) -> None:
    """What counts is the processor time that it took, and it took none."""
    weights = Weights(LIMIT, 20.0, Groups("none"))
    weights.follow(Worker(3, 2, nicest, 100.0), nicest, 100.0)
    assert weights.look(101.0, lambda: 7.0) == ""
    assert weights.due == pytest.approx(101.1)


def test_a_look_that_costs_much_is_rare_but_not_later_than_the_limit(nicest: int) -> None:
    """Newcomers get their own weight back in time, however many threads there are to look at."""
    weights = Weights(LIMIT, 20.0, Groups("none"))
    weights.follow(Worker(3, 2, nicest, 100.0), nicest, 100.0)
    spent = iter([7.0, 7.1, 7.1, 8.1])
    assert weights.look(101.0, lambda: next(spent)) == ""
    assert weights.due == pytest.approx(106.0)
    assert weights.look(106.0, lambda: next(spent)) == ""
    assert weights.due == pytest.approx(100.0 + LIMIT)
    said = weights.look(110.0, lambda: 9.0)
    assert said.endswith("(worker 2.3): they have been starting for 10 s")
    assert weights.due is None
