"""Nice values of threads and sessions, of processes of this test."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.linux.unprivileged import as_nobody

from segue.linux import niceness

THREADS = """
import os, threading, time
both = [threading.Thread(target=time.sleep, args=(60,), daemon=True) for _ in range(2)]
for one in both: one.start()
os.setpriority(os.PRIO_PROCESS, both[0].native_id, 7)
print(both[0].native_id, both[1].native_id, flush=True)
time.sleep(60)
"""


@pytest.fixture
def child() -> Iterator[tuple[int, int, int]]:
    """A process in a session of its own, its thread of nice 7, and another thread."""
    command = [sys.executable, "-c", THREADS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as one:
        assert one.stdout is not None
        special, other = map(int, one.stdout.readline().split())
        yield one.pid, special, other
        one.kill()


@pytest.mark.root
def test_threads_get_another_value_and_their_own_back(child: tuple[int, int, int]) -> None:
    """What has another value than was said is left alone."""
    pid, special, other = child
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness.change(pid, usual, niceness.LOWEST)
    assert [niceness.of(one) for one in child] == [niceness.LOWEST, 7, niceness.LOWEST]
    assert niceness.change(pid, niceness.LOWEST, usual)
    assert [niceness.of(one) for one in (pid, special, other)] == [usual, 7, usual]


def test_a_session_has_a_value_of_its_own(child: tuple[int, int, int]) -> None:
    """Which anybody may take back to 0."""
    pid, ours = child[0], niceness.of_session(os.getpid())  # None in the session of process 1
    if niceness.of_session(pid) is None:
        pytest.skip("this kernel does not group the threads of sessions")
    assert niceness.of_session(pid) == 0
    assert niceness.change_session(pid, niceness.LOWEST)
    assert niceness.of_session(pid) == niceness.LOWEST
    assert niceness.of_session(os.getpid()) == ours
    assert niceness.change_session(pid, 0)
    assert niceness.of_session(pid) == 0


def test_a_process_that_is_gone_has_none() -> None:
    """And to give it one is no error."""
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert niceness.of(gone.pid) is None
    assert niceness.of_session(gone.pid) is None
    assert niceness.change(gone.pid, 0, niceness.LOWEST)
    assert not niceness.change_session(gone.pid, niceness.LOWEST)


def tried() -> list[object]:
    return [niceness.can_return(), os.getpriority(os.PRIO_PROCESS, 0)]


@pytest.mark.root
def test_whether_a_thread_can_return_is_tried() -> None:
    """Root can, others only by RLIMIT_NICE; and who tries keeps what it has."""
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert tried() == [True, usual]
    reaches = resource.getrlimit(resource.RLIMIT_NICE)[0] >= 20 - usual
    assert as_nobody(tried) == [reaches, usual]
