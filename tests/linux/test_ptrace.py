"""Processes stopped by ptrace(2), with all their threads, and never for good."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.linux.unprivileged import as_nobody
from tests.waiting import PATIENCE, wait_until

from segue.linux import proc, ptrace

COUNTS = """
import threading, sys
def count():
    while True:
        sum(range(1000))
for _ in range(3):
    threading.Thread(target=count, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""


PARENT = """
import subprocess, sys
command = [sys.executable, "-c", sys.argv[1]]
with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
    print(child.pid, flush=True)
    print(child.wait(), flush=True)
"""


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A process of four threads, three of which run."""
    command = [sys.executable, "-c", COUNTS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_no_thread_runs_inside(busy: subprocess.Popen[bytes]) -> None:
    """And all of them do again, afterwards."""
    with ptrace.stopped([busy.pid]) as stopped:
        assert stopped
        assert proc.threads_stopped(busy.pid)
    wait_until(lambda: not proc.threads_stopped(busy.pid), "it runs again")
    assert busy.poll() is None


def test_a_signal_that_came_meanwhile_is_delivered(busy: subprocess.Popen[bytes]) -> None:
    """At the end, and the process is reaped by who started it."""
    with ptrace.stopped([busy.pid]) as stopped:
        assert stopped
        busy.terminate()
    assert busy.wait(PATIENCE) == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_another_parent_hears_of_an_end_meanwhile(number: signal.Signals) -> None:
    """Of a process that is not our child, with threads, which was ended while it was stopped."""
    command = [sys.executable, "-c", PARENT, COUNTS]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_until(lambda: len(os.listdir(f"/proc/{pid}/task")) == 4, "four threads")
        with ptrace.stopped([pid]) as stopped:
            assert stopped
            os.kill(pid, number)
        assert int(parent.stdout.readline()) == -number


def test_whoever_traced_is_killed(busy: subprocess.Popen[bytes]) -> None:
    """The process goes on by itself."""
    child = os.fork()
    if child == 0:
        with ptrace.stopped([busy.pid]) as stopped:
            if stopped:
                os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    wait_until(lambda: not proc.threads_stopped(busy.pid), "it runs again")


def test_what_does_not_stop_in_time_is_let_go(
    busy: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not stop later, when nobody is there to let it go."""
    monkeypatch.setattr(ptrace, "_LIMIT_SECONDS", -1.0)
    with ptrace.stopped([busy.pid]) as stopped:
        assert not stopped
    busy.terminate()
    assert busy.wait(PATIENCE) == -signal.SIGTERM


def test_what_cannot_be_stopped_is_said(busy: subprocess.Popen[bytes]) -> None:
    """Ourselves, and a process of another user; one that is gone does not run."""
    with ptrace.stopped([os.getpid()]) as stopped:
        assert not stopped
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    with ptrace.stopped([ended.pid]) as stopped:
        assert stopped


@pytest.mark.root
def test_another_users_process_is_not_stopped(busy: subprocess.Popen[bytes]) -> None:
    """Without CAP_SYS_PTRACE."""

    def refused() -> None:
        with ptrace.stopped([busy.pid]) as stopped:
            assert not stopped

    as_nobody(refused)
