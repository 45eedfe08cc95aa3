"""Newcomers, and workers that stop, give way to workers that serve, by their nice values."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from tests.supervisor.instance import Instance
from tests.supervisor.slow_server import newcomer, ticking, waits_at_its_end, waits_for
from tests.waiting import wait_until

from segue.linux import niceness, proc

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]


def weights(pid: int) -> set[tuple[int | None, int | None]]:
    """Of a process and all below it: of its threads and of its session."""
    found = {(niceness.of(each), niceness.of_session(each)) for each in proc.tree(pid)}
    return found - {(None, None)}  # one that has just ended


def grouped() -> bool:
    """Whether this kernel groups the threads of a session; those of process 1's never are."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as one:
        found = niceness.of_session(one.pid)
        one.kill()
    return found is not None


def test_a_newcomer_gives_way_until_it_is_ready(netns: int, tmp_path: Path) -> None:
    """With the processes that it starts.  The first start of all gives way to nobody."""
    go = tmp_path / "go"
    session = grouped()
    usual = (os.getpriority(os.PRIO_PROCESS, 0), 0 if session else None)
    lowest = (niceness.LOWEST, niceness.LOWEST if session else None)
    with Instance(tmp_path, command=waits_for(go)) as one:
        assert weights(newcomer(one)) == {usual}
        go.touch()
        one.wait_serving()
        go.unlink()
        one.process.send_signal(signal.SIGHUP)
        pid = newcomer(one)
        wait_until(lambda: weights(pid) == {lowest}, "the lowest weight")
        assert one.ask("reexec") == {"exit": 0}
        assert weights(pid) == {lowest}
        go.touch()
        one.wait_serving(2)
        assert weights(pid) == {usual}


def test_after_the_limit_a_newcomer_competes(netns: int, tmp_path: Path) -> None:
    """Though it is not ready, and the log says so."""
    go = tmp_path / "go"
    go.touch()
    with Instance(tmp_path, "--gentle-start", "0.3", command=waits_for(go)) as one:
        one.wait_serving()
        go.unlink()
        one.process.send_signal(signal.SIGHUP)
        pid, usual = newcomer(one), os.getpriority(os.PRIO_PROCESS, 0)
        wait_until(lambda: "they have been starting for" in one.said(), "the limit")
        assert niceness.of(pid) == usual


def test_a_worker_that_stops_gives_way(netns: int, tmp_path: Path) -> None:
    """With the processes that it started, also under the next code of the supervisor."""
    go = tmp_path / "go"
    lowest = (niceness.LOWEST, niceness.LOWEST if grouped() else None)
    with Instance(tmp_path, command=waits_at_its_end(go)) as one:
        one.wait_serving()
        old = int(one.workers("serving")[0]["pid"])
        one.process.send_signal(signal.SIGHUP)
        wait_until(lambda: one.workers("stopping"), "the order to stop")
        wait_until(lambda: len(proc.tree(old)) == 1, "the end of the server")
        # Unless the machine is so busy that the server waited too long for a processor.
        busy = "workers that stop compete"
        assert weights(old) == {lowest} or busy in one.said()
        assert one.ask("reexec") == {"exit": 0}
        assert weights(old) == {lowest} or busy in one.said()
        go.write_text("go")
        one.wait_serving(2)


def test_after_the_limit_a_worker_that_stops_competes(netns: int, tmp_path: Path) -> None:
    """And the log says so."""
    go = tmp_path / "go"
    usual = (os.getpriority(os.PRIO_PROCESS, 0), 0 if grouped() else None)
    with Instance(tmp_path, "--gentle-start", "0.3", command=waits_at_its_end(go)) as one:
        one.wait_serving()
        old = int(one.workers("serving")[0]["pid"])
        one.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "workers that stop compete" in one.said(), "the limit")
        assert weights(old) == {usual}
        go.write_text("go")
        one.wait_serving(2)


def test_a_worker_that_has_a_client_keeps_its_weight(netns: int, tmp_path: Path) -> None:
    """When it is told to stop at its drain limit."""
    usual = (os.getpriority(os.PRIO_PROCESS, 0), 0 if grouped() else None)
    with Instance(tmp_path, "--drain-timeout", "0.2") as one:
        one.wait_serving()
        old = int(one.workers("serving")[0]["pid"])
        with socket.create_connection(("127.0.0.1", 8080)) as client:
            client.sendall(b"GET / HTTP/1.1\r\n")
            one.process.send_signal(signal.SIGHUP)
            wait_until(lambda: one.workers("stopping"), "the order to stop")
            assert weights(old) == {usual}
        one.wait_serving(2)


@pytest.mark.kernel("6.6")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) > 8, reason="not done on so many processors")
def test_processors_choose_anew_from_the_first_restart_on(netns: int, tmp_path: Path) -> None:
    """By one process, which is no leftover of a worker and ends with the supervisor."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        assert ticking(one) == []
        for generation in (2, 3):
            one.process.send_signal(signal.SIGHUP)
            one.wait_serving(generation)
        (first,) = ticking(one)
        assert one.ask("reexec") == {"exit": 0}
        wait_until(lambda: proc.start_time(first) is None, "the end of the first")
        one.process.send_signal(signal.SIGHUP)
        one.wait_serving(4)
        (second,) = ticking(one)
        one.process.kill()
        wait_until(lambda: proc.start_time(second) is None, "the end of the second")
