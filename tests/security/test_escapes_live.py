"""Processes that get away from their worker: none of them outlives the instance at its address."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import ADDRESS, Instance
from tests.waiting import PATIENCE, wait_until

from segue.linux import proc, scm_rights

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]
PYTHON = (sys.executable, "-S", "-E", "-c")

# A server; its first worker leaves a daemon that has the listener and no environment.
ESCAPING = """
import os, socket, sys
if os.environ['SEGUE_WORKER'].endswith('w1') and os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.set_inheritable(3, True)
        os.execve('/bin/sleep', ['sleep', '300'], {})
    os._exit(0)
s = socket.socket(fileno=3)
while True:
    c, _ = s.accept()
    c.recv(4096)
    c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n')
    c.close()
"""
PLAIN = ESCAPING.replace("endswith('w1')", "endswith('never')")
# It gives its listener to whoever listens at the socket HOLDER.
GIVING = (
    """
import array, os, socket
with socket.socket(socket.AF_UNIX) as out:
    out.connect(os.environ['HOLDER'])
    out.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [3]))])
"""
    + PLAIN
)


def daemons(one: Instance) -> list[int]:
    """The supervisor's children that sleep."""
    return [pid for pid in proc.children(one.process.pid) if proc.command(pid) == "sleep"]


def refused() -> bool:
    """Nobody listens at the address."""
    with socket.socket() as client:
        client.settimeout(PATIENCE)
        return client.connect_ex(("127.0.0.1", 8080)) != 0


def test_a_daemon_with_an_empty_environment_ends_with_the_instance(
    netns: int, tmp_path: Path
) -> None:
    """It is a child of the supervisor and no worker: it is told to stop, and the next start of
    another instance finds the address free.
    """
    with Instance(tmp_path, command=(*PYTHON, ESCAPING)) as one:
        one.wait_serving()
        wait_until(lambda: daemons(one), "the daemon to be a child of the supervisor")
        (daemon,) = daemons(one)
        one.process.send_signal(signal.SIGTERM)
        assert one.wait() == 0
        assert proc.start_time(daemon) is None
        assert refused()
        (tmp_path / "next").mkdir()
        with Instance(tmp_path / "next", command=(*PYTHON, PLAIN)) as following:
            following.wait_serving()


def test_a_daemon_ends_with_the_last_worker_that_may_have_left_it(
    netns: int, tmp_path: Path
) -> None:
    """A restart ends it with its generation, and a worker that dies does not while another that
    may have started it serves.
    """
    with Instance(tmp_path, "--workers", "2", command=(*PYTHON, ESCAPING)) as one:
        one.wait_serving(1, 2)
        wait_until(lambda: daemons(one), "the daemon to be a child of the supervisor")
        (daemon,) = daemons(one)
        born = proc.start_time(daemon)
        first = next(worker for worker in one.workers("serving") if worker["id"] == 2)
        os.kill(first["pid"], signal.SIGKILL)
        wait_until(lambda: "was killed by SIGKILL" in one.said(), "a death")
        one.wait_serving(1, 2)
        assert proc.start_time(daemon) == born
        assert one.ask("restart")["exit"] == 0
        wait_until(lambda: proc.start_time(daemon) != born, "the end of the daemon")
        one.wait_serving(2, 2)


def test_who_was_there_before_the_supervisor_is_left_alone(netns: int, tmp_path: Path) -> None:
    """A shell that started something and then became the supervisor is no worker."""
    before = ("sh", "-c", 'sleep 300 & exec "$@"', "sh")
    with Instance(tmp_path, command=(*PYTHON, PLAIN), before=before) as one:
        one.wait_serving()
        (other,) = daemons(one)
        assert one.ask("restart")["exit"] == 0
        assert one.ask("reexec")["exit"] == 0
        one.wait_serving(2)
        assert one.ask("restart")["exit"] == 0
        one.process.send_signal(signal.SIGTERM)
        assert one.wait() == 0
        assert proc.run_state(other) in {"R", "S"}
        os.kill(other, signal.SIGKILL)


def test_a_listener_that_somebody_kept_listens_no_more(netns: int, tmp_path: Path) -> None:
    """A process outside has it, and no signal of the supervisor's reaches that: it is shut down at
    the end, with who waited there counted, so clients are refused and the next start is not.
    """
    with socket.socket(socket.AF_UNIX) as holder:
        holder.bind(str(tmp_path / "holder"))
        holder.listen()
        flags = ("--env", f"HOLDER={tmp_path / 'holder'}")
        with Instance(tmp_path, *flags, command=(*PYTHON, GIVING)) as one:
            giver, _ = holder.accept()
            with giver:
                _, (kept,) = scm_rights.receive(giver, 16)
            one.wait_serving()
            one.process.send_signal(signal.SIGTERM)
            assert one.wait() == 0
            assert refused()
            assert f"had kept a listener at {ADDRESS}: it has been shut down" in one.said()
            (tmp_path / "next").mkdir()
            with Instance(tmp_path / "next", command=(*PYTHON, PLAIN)) as following:
                following.wait_serving()
            os.close(kept)


def test_a_kept_listener_goes_on_over_everything_but_the_end(netns: int, tmp_path: Path) -> None:
    """A restart, new code and a supervisor that dies shut nothing down: who has one listens."""
    with socket.socket(socket.AF_UNIX) as holder:
        holder.bind(str(tmp_path / "holder"))
        holder.listen()
        flags = ("--env", f"HOLDER={tmp_path / 'holder'}")
        with Instance(tmp_path, *flags, command=(*PYTHON, GIVING)) as one:
            giver, _ = holder.accept()
            with giver:
                _, (number,) = scm_rights.receive(giver, 16)
            with socket.socket(fileno=number) as kept:
                one.wait_serving()
                assert one.ask("reexec")["exit"] == 0
                one.wait_serving()
                one.process.kill()
                one.wait()
                one.again()
                one.wait_serving()
                assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
                one.process.send_signal(signal.SIGTERM)
                assert one.wait() == 0
                assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
