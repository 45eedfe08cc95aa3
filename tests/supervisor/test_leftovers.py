"""Which of our children are nobody's any more, and whether there are any."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from segue.supervisor.workers.leftovers import Leftovers, Orphan, strays


def test_a_child_that_says_nothing_is_a_stray_once_its_maker_cannot_live() -> None:
    """It may be of any worker that was started before it, and of none that was started after."""
    daemon = {7: Orphan(50)}
    assert strays(daemon, {}, ()) == {7: 50}
    assert strays(daemon, {"w2": 60}, ()) == {7: 50}
    assert strays(daemon, {"w1": 40, "w2": 60}, ()) == {}
    assert strays(daemon, {"w1": 50}, ()) == {}, "within one tick it may be either"


def test_an_environment_that_names_a_worker_decides() -> None:
    """Of one that lives it is left alone; of one that does not it is a stray, whatever the time."""
    assert strays({7: Orphan(50, "w2")}, {"w2": 60}, ()) == {}
    assert strays({7: Orphan(50, "w1")}, {"w2": 40}, ()) == {7: 50}


def test_workers_and_who_was_there_before_us_are_no_strays() -> None:
    """By number and start time: who got the number of one since is another."""
    orphans = {7: Orphan(50), 8: Orphan(51)}
    assert strays(orphans, {}, {(7, 50), (8, 44)}) == {8: 51}


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that a worker could have left to us."""
    with subprocess.Popen(["sleep", "600"]) as made:
        yield made
        made.kill()


def test_a_child_that_nobody_knows_may_have_been_left(child: subprocess.Popen[bytes]) -> None:
    """As long as it runs.  One that was there before, or is said to be ours, was left by nobody."""
    with subprocess.Popen(["sleep", "600"]) as later:
        left = Leftovers(time.monotonic, print, dict)
        later.kill()
    assert left.none([]), "the first was there before, and the other has ended"
    with subprocess.Popen(["sleep", "600"]) as unknown:
        assert not left.none([])
        left.spare(unknown.pid)
        assert left.none([])
        unknown.kill()


@dataclass
class Worker:
    """As much of a Process as is asked for: its pid, and a descriptor of what it stood for."""

    pid: int
    pidfd: int

    @property
    def child(self) -> Worker:
        return self


def test_a_worker_is_known_by_its_pid_while_it_runs() -> None:
    """Nothing is read of it, since there may be hundreds.  Who gets its pid later is another."""
    with subprocess.Popen(["true"]) as ended:
        left = Leftovers(time.monotonic, print, dict)
        gone = os.pidfd_open(ended.pid)
    with subprocess.Popen(["sleep", "600"]) as running:
        here = os.pidfd_open(running.pid)
        worker: Any = Worker(running.pid, here)
        former: Any = Worker(running.pid, gone)
        assert left.none([worker])
        assert not left.none([former])
        running.kill()
    os.close(here)
    os.close(gone)
