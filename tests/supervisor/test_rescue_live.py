"""Rescue: what waits behind a stalled worker is served by its siblings, while it stalls."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import ROOT, SERVER, Instance, load
from tests.supervisor.test_faults_live import answered, connect
from tests.waiting import PATIENCE, wait_until

from segue.linux import proc
from segue.linux.pidfd import duplicate_socket
from segue.linux.sock_diag import SockDiag
from segue.linux.sockopt import is_listening
from segue.probe.fates import Fate

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]


def stop(pid: int) -> None:
    """SIGSTOP, and wait until it stands."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: proc.threads_stopped(pid), "a stopped worker")


def share(one: Instance, pid: int) -> float:
    """Percent of new connections that this worker gets; -1 when it is gone."""
    return next((w["share"] for w in one.workers("serving") if w["pid"] == pid), -1.0)


def test_what_waits_behind_a_stalled_worker_is_served(netns: int, tmp_path: Path) -> None:
    """One of two is stopped: all are answered while it stands, it gets nothing new, and has its
    share again when it goes on.
    """
    with Instance(tmp_path, "--workers", "2") as one:
        one.wait_serving(1, 2)
        victim = one.workers("serving")[0]["pid"]
        stop(victim)
        assert answered(connect(20)) == 20
        wait_until(lambda: share(one, victim) == 0, "no share for the stalled worker")
        assert answered(connect(20)) == 20
        (stalled,) = [w for w in one.workers("serving") if w["pid"] == victim]
        assert stalled["stalled"] > 0
        assert stalled["rescued"] == one.status()["rescued"] == one.status()["moved"] > 0
        assert "has accepted nothing for" in one.said()
        assert "is stopped" in one.said()
        os.kill(victim, signal.SIGCONT)
        wait_until(lambda: share(one, victim) == 50, "its share back")
        assert "accepts again" in one.said()
        assert answered(connect(20)) == 20
        assert {w["pid"] for w in one.workers("serving")} >= {victim}


def test_a_worker_alone_keeps_its_queue(netns: int, tmp_path: Path) -> None:
    """Nobody could take it: nothing is moved, and nothing is lost."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        victim = one.workers("serving")[0]["pid"]
        stop(victim)
        clients = connect(5)
        wait_until(lambda: one.workers("serving")[0]["queue"] == 5, "five in the queue")
        os.kill(victim, signal.SIGCONT)
        assert answered(clients) == 5
        assert one.status()["rescued"] == 0


def test_when_all_stall_the_shares_stay(netns: int, tmp_path: Path) -> None:
    """Moving helps no one: the queues wait for whoever wakes first."""
    with Instance(tmp_path, "--workers", "2") as one:
        one.wait_serving(1, 2)
        pids = [w["pid"] for w in one.workers("serving")]
        for pid in pids:
            stop(pid)
        clients = connect(40)
        wait_until(lambda: sum(w["queue"] for w in one.workers("serving")) >= 40, "the queues")
        os.kill(pids[0], signal.SIGCONT)
        assert answered(clients) == 40
        os.kill(pids[1], signal.SIGCONT)
        wait_until(lambda: [share(one, pid) for pid in pids] == [50, 50], "both shares")


def test_off_is_off(netns: int, tmp_path: Path) -> None:
    """--rescue off: what waits behind a stalled worker waits."""
    with Instance(tmp_path, "--workers", "2", "--rescue", "off") as one:
        one.wait_serving(1, 2)
        victim = one.workers("serving")[0]["pid"]
        stop(victim)
        clients = connect(40)
        wait_until(lambda: any(w["queue"] for w in one.workers("serving")), "a queue")
        os.kill(victim, signal.SIGCONT)
        assert answered(clients) == 40
        assert one.status()["rescued"] == 0


def test_one_that_is_stalled_too_long_is_replaced(netns: int, tmp_path: Path) -> None:
    """--stall-kill: a new worker, stop signal, SIGKILL; the other one is left alone."""
    flags = ("--workers", "2", "--stall-kill", "0.3", "--stop-timeout", "0.2")
    with Instance(tmp_path, *flags) as one:
        one.wait_serving(1, 2)
        victim, other = (w["pid"] for w in one.workers("serving"))
        stop(victim)
        assert answered(connect(20)) == 20
        wait_until(lambda: not os.path.exists(f"/proc/{victim}"), "the end of the stalled worker")
        one.wait_serving(1, 2)
        assert other in {w["pid"] for w in one.workers("serving")}
        assert "it was stalled for" in one.said()


@pytest.mark.parametrize("how", ["sleep", "spin"])
def test_nothing_is_lost_through_stalls_under_load(netns: int, tmp_path: Path, how: str) -> None:
    """A loop that blocks: nothing is lost, and the worker does not notice (no traceback)."""
    command = (sys.executable, "-m", "examples.stalling")
    env = {"STALL": f"{how}:1"}
    with Instance(tmp_path, "--workers", "2", command=command, env=env) as one:
        one.wait_serving(1, 2)
        with load() as finish:
            os.kill(one.workers("serving")[0]["pid"], signal.SIGUSR2)
            # Its log is read, since to be asked for its status all the time slows it down.
            wait_until(lambda: "has accepted nothing" in one.said(), "a rescue")
            wait_until(lambda: "accepts again" in one.said(), "the end of a stall")
            result = finish()
        assert result.lost == 0, (result.counts, one.said())
        assert "Traceback" not in one.said()
        assert "Error" not in one.said()


DEFERRING = """
import socket
listener = socket.socket(fileno=3)
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
while True:
    try:
        accepted = listener.accept()[0]
    except OSError:
        continue  # the test has woken it in the middle of a cycle
    with accepted as client:
        if client.recv(4096).strip():
            client.send(b"HTTP/1.0 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
"""


def test_a_worker_that_waits_for_data_is_found_awake_again(netns: int, tmp_path: Path) -> None:
    """With TCP_DEFER_ACCEPT, Apache's and pgbouncer's default, it accepts no silent knock."""
    command = (sys.executable, "-S", "-E", "-c", DEFERRING)
    with Instance(tmp_path, "--workers", "2", command=command) as one:
        one.wait_serving(1, 2)
        victim = one.workers("serving")[0]["pid"]
        with load() as finish:
            os.kill(victim, signal.SIGSTOP)
            wait_until(lambda: any(w["rescued"] for w in one.workers("serving")), "a rescue")
            os.kill(victim, signal.SIGCONT)
            wait_until(lambda: "accepts again" in one.said(), "the end of a stall")
            result = finish()
        assert result.lost == 0, (result.counts, one.said())
        assert [w["stalled"] for w in one.workers("serving")] == [None, None]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_what_waits_behind_a_worker_that_dies_goes_to_its_sibling(
    netns: int, tmp_path: Path, number: int
) -> None:
    """Whatever kills it: its queue is answered by the other one, before there is a next worker."""
    command = (sys.executable, "-m", "examples.stalling")
    flags = ("--workers", "2", "--rescue", "off")
    with Instance(tmp_path, *flags, command=command, env={"STALL": "sleep:60"}) as one:
        one.wait_serving(1, 2)
        victim, other = (w["pid"] for w in one.workers("serving"))
        os.kill(victim, signal.SIGUSR2)
        wait_until(lambda: "nanosleep" in proc.wait_channel(victim), "a stalled worker")
        clients = connect(20)
        os.kill(victim, number)
        pids = []
        for client in clients:
            with client, client.makefile("rb") as stream:
                pids.append(int(stream.read().split(b"X-Pid: ")[1].split(b"\r")[0]))
        assert pids == [other] * 20
        one.wait_serving(1, 2)


def test_a_handshake_that_ends_after_its_worker_died_is_a_siblings(
    netns: int, tmp_path: Path
) -> None:
    """Half-open at the death, and no next worker ever ready: the other one answers all.

    With TCP_DEFER_ACCEPT a request stays half-open until its client has sent something.
    """
    broken = tmp_path / "broken"
    script = f"test -e {broken} && exec sleep 60; exec {shlex.join(SERVER)}"
    flags = ("--workers", "2", "--rescue", "off")
    with Instance(tmp_path, *flags, command=("sh", "-c", script)) as one:
        one.wait_serving(1, 2)
        victim, other = (w["pid"] for w in one.workers("serving"))
        broken.touch()
        inherited = next(iter(proc.sockets(victim).values()))
        with duplicate_socket(victim, inherited) as listener:
            assert is_listening(listener)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        clients = [socket.create_connection(("127.0.0.1", 8080), PATIENCE) for _ in range(20)]
        with SockDiag() as diag:
            assert diag.half_open(8080, socket.AF_INET)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: [w["pid"] for w in one.workers("serving")] == [other], "one worker")
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answered(clients) == 20


def has_served(one: Instance, seconds: float) -> None:
    """Wait until the oldest worker that serves has done so for this long."""
    begun = one.workers("serving")[0]["age"]
    wait_until(lambda: one.workers("serving")[0]["age"] > begun + seconds, "some time of service")


def test_workers_that_have_served_are_replaced_at_once(netns: int, tmp_path: Path) -> None:
    """However often they are killed: only a start that fails is put off."""
    with Instance(tmp_path, "--workers", "2") as one:
        for _ in range(3):
            one.wait_serving(1, 2)
            has_served(one, 0.6)
            os.kill(one.workers("serving")[0]["pid"], signal.SIGKILL)
        one.wait_serving(1, 2)
        assert json.loads((tmp_path / "run" / "t.json").read_text())["instance"]["crashes"] == []


def test_a_worker_killed_at_random_is_replaced_each_time(netns: int, tmp_path: Path) -> None:
    """The injector of examples/, under load: nothing is refused, and nobody times out."""
    inject = [sys.executable, "-m", "examples.crashing", "--name", "t", "--every", "0.3"]
    with Instance(tmp_path, "--workers", "2") as one:
        one.wait_serving(1, 2)
        with load() as finish:
            done = subprocess.run(
                [*inject, "--times", "3"], cwd=ROOT, env=one.env, capture_output=True, check=False
            )
            assert done.returncode == 0, done.stderr
            one.wait_serving(1, 2)
            result = finish()
        assert done.stdout.count(b"SIGKILL to ") == 3
        assert result.lost == result.count(Fate.RESET_AFTER) + result.count(Fate.EOF)
