"""The process whose wakeups have processors choose anew: when it is there, and what it does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.waiting import wait_until

from segue.linux import proc
from segue.supervisor.workers.ticks import Ticks

pytestmark = [
    pytest.mark.kernel("6.6"),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) > 8, reason="not done on so many processors"),
]


@pytest.fixture
def pids() -> list[int]:
    """Those that have been told of."""
    return []


@pytest.fixture
def ticks(pids: list[int]) -> Iterator[Ticks]:
    """Nothing started yet."""
    with Ticks(pids.append) as one:
        yield one


def switches(pid: int) -> list[int]:
    """How often each of its threads but the first has gone to sleep."""
    found = []
    for thread in sorted(map(int, os.listdir(f"/proc/{pid}/task"))):
        status = Path(f"/proc/{pid}/task/{thread}/status").read_text()
        found.append(int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0]))
    return found[1:]


def wakes(pid: int) -> bool:
    """Whether all of them wake up by themselves."""
    before = switches(pid)
    wait_until(lambda: len(switches(pid)) == len(os.sched_getaffinity(0)), "its threads")
    time.sleep(0.05)
    return all(now > then for now, then in zip(switches(pid), before, strict=False))


def test_it_is_started_when_first_wanted(ticks: Ticks, pids: list[int]) -> None:
    """With a thread on each processor, and rests while it is not wanted."""
    ticks.go(wanted=False)
    assert pids == []
    ticks.go(wanted=True)
    (pid,) = pids
    wait_until(lambda: wakes(pid), "wakeups")

    def everywhere() -> bool:
        where = [os.sched_getaffinity(one) for one in map(int, os.listdir(f"/proc/{pid}/task"))]
        return all({one} in where for one in os.sched_getaffinity(0))

    wait_until(everywhere, "a thread on each processor")
    ticks.go(wanted=False)
    wait_until(lambda: not any(wakes(pid) for _ in range(2)), "rest")
    ticks.go(wanted=True)
    wait_until(lambda: wakes(pid), "wakeups again")
    assert pids == [pid]
    ticks.close()
    assert proc.start_time(pid) is None
    ticks.close()


def test_one_that_was_ended_is_started_again(ticks: Ticks, pids: list[int]) -> None:
    """When it is wanted once more; that it is gone is no error."""
    ticks.go(wanted=True)
    os.kill(pids[0], signal.SIGKILL)
    os.waitid(os.P_PID, pids[0], os.WEXITED | os.WNOWAIT)
    ticks.go(wanted=False)
    ticks.go(wanted=True)
    assert len(pids) == 2
    wait_until(lambda: wakes(pids[1]), "wakeups")
