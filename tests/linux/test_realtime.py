"""Real-time priority for a moment, of threads of this test."""

from __future__ import annotations

import os
import threading

import pytest
from tests.linux.unprivileged import as_nobody

from segue.linux import realtime


def _started() -> int:
    found: list[int] = []
    one = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
    one.start()
    one.join()
    return found[0]


@pytest.mark.root
@pytest.mark.parametrize("policy", [os.SCHED_OTHER, os.SCHED_BATCH])
def test_a_thread_and_what_it_starts_go_first_and_are_as_before(policy: int) -> None:
    """Also inside another such block."""
    os.sched_setscheduler(0, policy, os.sched_param(0))
    try:
        with realtime.urgent() as first:
            with realtime.urgent() as again:
                inside = os.sched_getscheduler(0), _started()
            outer = os.sched_getscheduler(0)
        after = os.sched_getscheduler(0), _started()
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    assert (first, again) == (True, True)
    assert (inside, outer) == ((os.SCHED_FIFO, os.SCHED_FIFO), os.SCHED_FIFO)
    assert after == (policy, policy)


@pytest.mark.root
def test_without_the_right_nothing_changes() -> None:
    """It is told, and what is in the block is done all the same."""

    def work() -> tuple[bool, int]:
        with realtime.urgent() as found:
            return found, os.sched_getscheduler(0)

    assert as_nobody(work) == [False, os.SCHED_OTHER]
