"""Processes that stand still for a moment, and always go on afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from tests import leaks
from tests.linux.unprivileged import as_nobody
from tests.waiting import PATIENCE, wait_until

from segue.engine.freeze import frozen
from segue.errors import UsageError
from segue.linux import proc

# Three threads, a child with two, and a grandchild; says who they are.
FAMILY = """
import os, subprocess, sys, threading
def threads(count):
    for _ in range(count):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
threads(2)
if len(sys.argv) > 1:
    print(subprocess.Popen(["cat"], stdin=0).pid, flush=True)
else:
    child = subprocess.Popen([sys.executable, __file__, "child"], stdin=0, stdout=subprocess.PIPE)
    print(child.pid, int(child.stdout.readline()), flush=True)
sys.stdin.read()
os._exit(0)
"""


@pytest.fixture
def cat() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for its input to end."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.communicate(b"", timeout=PATIENCE)


@pytest.fixture
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int, int]]:
    """A process, its child and its grandchild, two of them with threads."""
    script = tmp_path_factory.mktemp("family") / "family.py"
    script.write_text(FAMILY)
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        child, grandchild = (int(word) for word in process.stdout.readline().split())
        yield process.pid, child, grandchild
        process.communicate(b"", timeout=PATIENCE)


def states(pids: tuple[int, ...]) -> set[str | None]:
    return {proc.run_state(pid) for pid in pids}


def test_a_whole_tree_stands_still_with_all_its_threads(family: tuple[int, int, int]) -> None:
    """Also those that only the kernel knows to be children; all go on afterwards."""
    with frozen([family[0]]) as still:
        assert still
        assert all(proc.threads_stopped(pid) for pid in family)
        assert states(family) == {"T"}
    wait_until(lambda: "T" not in states(family), "all of them run")


def test_children_go_on_where_only_these_are_meant(family: tuple[int, int, int]) -> None:
    """Children of a process may have nothing to do with what it is frozen for."""
    parent, child, _ = family
    with frozen([parent], children=False) as still:
        assert still
        assert proc.threads_stopped(parent)
        assert proc.run_state(child) not in {"T", "t"}


def test_they_go_on_when_the_block_raises(cat: subprocess.Popen[bytes]) -> None:
    """Whatever happens inside."""
    with pytest.raises(ZeroDivisionError), frozen([cat.pid]):
        raise ZeroDivisionError
    wait_until(lambda: proc.run_state(cat.pid) != "T", "it runs")


def test_who_was_stopped_before_stays_so(cat: subprocess.Popen[bytes]) -> None:
    """Somebody wanted it to stop; it counts as frozen, and its stop is not ended."""
    os.kill(cat.pid, signal.SIGSTOP)
    wait_until(lambda: proc.threads_stopped(cat.pid), "it stands still")
    with frozen([cat.pid]) as still:
        assert still
    assert proc.run_state(cat.pid) == "T"
    os.kill(cat.pid, signal.SIGCONT)


def test_one_that_is_gone_is_told_and_the_others_stand_still(
    cat: subprocess.Popen[bytes],
) -> None:
    """As is one that may not be signalled."""
    with subprocess.Popen(["true"]) as gone:
        pass
    with frozen([gone.pid, cat.pid]) as still:
        assert not still
        assert proc.threads_stopped(cat.pid)


@pytest.mark.root
def test_another_users_process_is_left_running(cat: subprocess.Popen[bytes]) -> None:
    """Without CAP_KILL it is not stopped, which is told."""

    def work() -> list[object]:
        with frozen([cat.pid]) as still:
            return [still, proc.run_state(cat.pid)]

    still, state = as_nobody(work)
    assert not still
    assert state != "T"


def test_the_calling_process_is_refused() -> None:
    """Nobody could wake it; the others are not touched either."""
    with pytest.raises(UsageError, match="cannot freeze itself"), frozen([os.getpid()]):
        raise AssertionError


def test_nobody_is_frozen_at_once() -> None:
    """An empty list is a block like any other."""
    with frozen([]) as still:
        assert still


class Rung(Exception):
    """What a signal handler raises."""


def test_a_signal_waits_until_they_go_on(cat: subprocess.Popen[bytes]) -> None:
    """Its handler may raise, and must not do so between a stop and its record."""

    def ring(number: int, frame: object) -> None:
        assert proc.run_state(cat.pid) != "T"
        raise Rung

    held: list[bool] = []

    def interrupted() -> None:
        with frozen([cat.pid]):
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
            held.append(True)

    before = signal.signal(signal.SIGUSR1, ring)
    try:
        with pytest.raises(Rung):
            interrupted()
        assert held
        assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_no_descriptor_is_left(cat: subprocess.Popen[bytes]) -> None:
    """A pidfd a process for as long as it is frozen, and not longer."""
    before = leaks.descriptors()
    with frozen([cat.pid]):
        assert len(leaks.descriptors() - before) == 1
    assert leaks.descriptors() == before
