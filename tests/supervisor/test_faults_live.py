"""Faults: crashes, kills and stalls, of workers and of the supervisor itself."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import DRAIN, SERVER, Instance, load
from tests.waiting import PATIENCE, wait_until

from segue.linux import proc
from segue.probe.fates import Fate

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]
BOTH = pytest.mark.parametrize("engine", ["migrate", DRAIN])


def connect(count: int) -> list[socket.socket]:
    """Clients whose handshake is done and whose request is sent."""
    clients = []
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", 8080), timeout=PATIENCE)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        clients.append(client)
    return clients


def answered(clients: list[socket.socket]) -> int:
    """How many of them get a whole answer."""
    count = 0
    for client in clients:
        with client, client.makefile("rb") as stream:
            count += stream.read().startswith(b"HTTP/1.1 200")
    return count


@BOTH
@pytest.mark.parametrize("workers", [1, 2])
def test_what_waits_behind_a_killed_worker_is_served(
    netns: int, tmp_path: Path, engine: str, workers: int
) -> None:
    """A stopped worker is sent connections, then killed: each is answered by another or the next
    worker, because the listener outlived the process.
    """
    with Instance(tmp_path, "--engine", engine, "--workers", str(workers)) as one:
        one.wait_serving(1, workers)
        victim = one.workers("serving")[0]["pid"]
        os.kill(victim, signal.SIGSTOP)
        wait_until(lambda: proc.threads_stopped(victim), "a stopped worker")
        clients = connect(20)
        os.kill(victim, signal.SIGKILL)
        assert answered(clients) == 20
        one.wait_serving(1, workers)


def wait_gone(one: Instance, pid: int) -> None:
    """Until the supervisor, too, has heard of a worker's death."""
    wait_until(
        lambda: pid not in {worker["pid"] for worker in one.workers("serving")},
        "the death of a worker to be noticed",
    )


def test_killed_under_load_only_what_it_had_accepted_is_lost(netns: int, tmp_path: Path) -> None:
    """SIGKILL of a worker: nothing is refused, and nobody times out."""
    with Instance(tmp_path, "--workers", "2") as one:
        one.wait_serving(1, 2)
        with load() as finish:
            for _ in range(2):
                victim = one.workers("serving")[0]["pid"]
                os.kill(victim, signal.SIGKILL)
                wait_gone(one, victim)
                one.wait_serving(1, 2)
            result = finish()
        assert result.lost == result.count(Fate.RESET_AFTER) + result.count(Fate.EOF)
        assert result.lost <= 8, result.counts


@BOTH
def test_what_waits_behind_a_stalled_old_worker_is_served(
    netns: int, tmp_path: Path, engine: str
) -> None:
    """An old worker that stalls with a queue is stopped at its limit, and the queue is answered:
    moved where connections migrate, taken by an finisher where they do not.
    """
    flags = ("--engine", engine, "--drain-timeout", "0.3", "--stop-timeout", "0.3")
    with Instance(tmp_path, *flags) as one:
        one.wait_serving()
        victim = one.workers("serving")[0]["pid"]
        os.kill(victim, signal.SIGSTOP)
        wait_until(lambda: proc.threads_stopped(victim), "a stopped worker")
        clients = connect(20)
        assert one.ask("restart")["exit"] == 0
        assert answered(clients) == 20
        one.wait_serving(2)


@BOTH
def test_what_waits_behind_a_dead_worker_is_served_by_the_next_generation(
    netns: int, tmp_path: Path, engine: str
) -> None:
    """The only worker is killed with a queue, its replacement hangs, a restart brings a version
    that works: the queue is answered and the dead worker's listener is gone.
    """
    hang = tmp_path / "hang"
    # The replacement alone hangs: who comes after it finds the file taken away.
    stuck = f"[ $SEGUE_GENERATION = 1 ] && mv {hang} {hang}.taken 2>&- && exec sleep 60"
    command = ("sh", "-c", f"{stuck}; exec {' '.join(SERVER)}")
    with Instance(tmp_path, "--engine", engine, command=command) as one:
        one.wait_serving()
        victim = one.workers("serving")[0]["pid"]
        os.kill(victim, signal.SIGSTOP)
        wait_until(lambda: proc.threads_stopped(victim), "a stopped worker")
        clients = connect(20)
        hang.touch()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not hang.exists(), "the replacement")
        assert one.ask("restart", wait=False)["exit"] == 0
        assert answered(clients) == 20
        one.wait_serving(2)
        assert one.status()["fronts"][0]["listeners"] == 1


def test_now_moves_the_queue_at_the_flip(netns: int, tmp_path: Path) -> None:
    """--now: the new generation answers while the old worker is still stalled."""
    with Instance(tmp_path, "--drain-timeout", "5", "--stop-timeout", "0.3") as one:
        one.wait_serving()
        victim = one.workers("serving")[0]["pid"]
        os.kill(victim, signal.SIGSTOP)
        wait_until(lambda: proc.threads_stopped(victim), "a stopped worker")
        clients = connect(20)
        one.ask("restart", now=True, wait=False)
        assert answered(clients) == 20
        assert one.status()["moved"] == 20
        one.wait_serving(2)


@pytest.mark.kernel("5.10")
def test_now_is_refused_where_nothing_migrates(netns: int, tmp_path: Path) -> None:
    """The drain engine cannot, and says what would."""
    with Instance(tmp_path, "--engine", "drain") as one:
        one.wait_serving()
        answer = one.ask("restart", now=True)
        assert answer["exit"] == 1
        assert "engine that migrates" in answer["error"]
        one.wait_serving(1)


@BOTH
@pytest.mark.parametrize("stage", ["serving", "starting", "draining"])
def test_a_supervisor_that_is_killed_is_followed_by_another(
    netns: int, tmp_path: Path, engine: str, stage: str
) -> None:
    """Workers serve on without it; the next one takes over in the middle of what was under way."""
    slow = tmp_path / "slow"
    wait = f"while test -e {slow}; do sleep 0.02; done"
    command = ("sh", "-c", f"{wait}; exec {' '.join(SERVER)}")
    with Instance(tmp_path, "--engine", engine, "--workers", "2", command=command) as one:
        one.wait_serving(1, 2)
        pids = {w["pid"] for w in one.workers("serving")}
        with load() as finish:
            if stage == "starting":
                slow.touch()
                one.ask("restart", wait=False)
                wait_until(lambda: len(one.workers("starting")) == 2, "newcomers")
            elif stage == "draining":
                assert one.ask("restart", keep=60)["exit"] == 0
            one.process.kill()
            one.process.wait()
            slow.unlink(missing_ok=True)
            one.again()
            wait_until(one.status, "an answer of the next supervisor")
            if stage == "starting":
                one.wait_serving(2, 2)
            elif stage == "draining":
                assert len(one.workers("serving", "draining")) == 4
                assert one.ask("rollback")["generation"] == 1
                one.wait_serving(1, 2)
            if stage != "starting":
                assert {w["pid"] for w in one.workers("serving")} == pids
            generation = one.ask("restart")["generation"]
            one.wait_serving(generation, 2)
            result = finish()
        assert result.lost == 0, (result.counts, result.examples, one.said())


@BOTH
def test_a_supervisor_replaces_its_own_code(netns: int, tmp_path: Path, engine: str) -> None:
    """reexec: the same process, the same workers, nothing lost, and it restarts as before."""
    with Instance(tmp_path, "--engine", engine, "--workers", "2") as one:
        one.wait_serving(1, 2)
        pids = {w["pid"] for w in one.workers("serving")}
        with load() as finish:
            assert one.ask("reexec")["exit"] == 0
            wait_until(lambda: "new code" in one.said(), "the new code")
            one.wait_serving(1, 2)
            assert {w["pid"] for w in one.workers("serving")} == pids
            assert one.ask("restart")["exit"] == 0
            one.wait_serving(2, 2)
            result = finish()
        assert result.lost == 0, (result.counts, result.examples)


def test_a_worker_that_dies_while_draining_is_said(netns: int, tmp_path: Path) -> None:
    """It is no crash of the working generation: nothing is respawned for it."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        old = one.workers("serving")[0]["pid"]
        one.ask("restart", keep=60)
        os.kill(old, signal.SIGKILL)
        one.wait_serving(2)
        assert "was killed by SIGKILL while draining" in one.said()


def test_a_crash_loop_gives_up(netns: int, tmp_path: Path) -> None:
    """A worker that dies as soon as it serves: back-off, then the end, with 3."""
    script = "import os, socket\ns = socket.socket(fileno=3)\ns.accept()[0].close()\ns.accept()\n"
    flags = ("--crash-limit", "2")
    with Instance(tmp_path, *flags, command=(sys.executable, "-S", "-c", script)) as one:
        wait_until(lambda: one.workers("serving") or one.process.poll() is not None, "a worker")

        def poked() -> bool:
            try:
                socket.create_connection(("127.0.0.1", 8080), timeout=PATIENCE).close()
            except OSError:
                return True
            return one.process.poll() is not None

        wait_until(poked, "the end of the crash loop")
        assert one.wait() == 3
        assert "none is serving" in one.said()


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ([signal.SIGTERM], 0),
        ([signal.SIGINT], 0),
        ([signal.SIGQUIT], 128 + signal.SIGQUIT),
        ([signal.SIGINT, signal.SIGINT], 128 + signal.SIGINT),
    ],
)
def test_signals_end_an_instance(netns: int, tmp_path: Path, signals: list[int], code: int) -> None:
    """TERM and INT let the workers finish; INT twice, or QUIT, does not; no worker is left."""
    stubborn = len(signals) > 1
    ignore = "trap '' TERM; " if stubborn else ""
    command = ("sh", "-c", f"{ignore}{' '.join(SERVER)}") if stubborn else SERVER
    with Instance(tmp_path, command=command) as one:
        one.wait_serving()
        tree = proc.tree(one.process.pid)
        if stubborn:
            # Stopped, it cannot follow the first signal, as one that hangs.
            for pid in tree[1:]:
                os.kill(pid, signal.SIGSTOP)
        for number, one_signal in enumerate(signals):
            os.kill(one.process.pid, one_signal)
            if number + 1 < len(signals):
                wait_until(lambda: one.workers("stopping"), "the first signal to be followed")
        assert one.wait() == code
        wait_until(lambda: not any(proc.start_time(pid) for pid in tree), "the end of all workers")


def test_signals_change_an_instance(netns: int, tmp_path: Path) -> None:
    """TTIN and TTOU add and take a worker, HUP restarts, USR2 re-executes."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        os.kill(one.process.pid, signal.SIGTTIN)
        one.wait_serving(1, 2)
        os.kill(one.process.pid, signal.SIGTTOU)
        one.wait_serving(1, 1)
        os.kill(one.process.pid, signal.SIGHUP)
        one.wait_serving(2, 1)
        os.kill(one.process.pid, signal.SIGUSR2)
        wait_until(lambda: "new code" in one.said(), "the new code")
        one.wait_serving(2, 1)


def test_usr1_is_passed_on_to_every_worker(netns: int, tmp_path: Path) -> None:
    """Each hears it once for each time that it was sent, serves on, and is not replaced."""
    script = tmp_path / "server.py"
    script.write_text(
        "import os, signal, socket\n"
        "listener = socket.socket(fileno=3)\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('heard', os.getpid(), flush=True))\n"
        "while True: listener.accept()[0].close()\n"
    )
    command = (sys.executable, "-S", "-E", str(script))
    with Instance(tmp_path, "--workers", "2", command=command) as one:
        one.wait_serving(1, 2)
        pids = {worker["pid"] for worker in one.workers("serving")}

        def heard() -> list[int]:
            return [one.said().count(f"heard {pid}\n") for pid in pids]

        os.kill(one.process.pid, signal.SIGUSR1)
        wait_until(lambda: heard() == [1, 1], "the signal, at both")
        os.kill(one.process.pid, signal.SIGUSR1)
        wait_until(lambda: heard() == [2, 2], "the second signal, at both")
        assert {worker["pid"] for worker in one.workers("serving")} == pids


@pytest.mark.parametrize("obeys", [True, False])
def test_what_a_shell_leaves_running_is_ended_too(netns: int, tmp_path: Path, obeys: bool) -> None:
    """A shell that does not exec dies of the stop signal and its server would run on: it gets the
    signal as well, and SIGKILL when it does not follow in time.
    """
    ignore = "" if obeys else "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    script = tmp_path / "server.py"
    script.write_text(
        f"{ignore}import socket\ns = socket.socket(fileno=3)\nwhile True: s.accept()[0].close()\n"
    )
    command = ("sh", "-c", f"{sys.executable} -S -E {script}; echo over")
    with Instance(tmp_path, "--stop-timeout", "0.3", command=command) as one:
        one.wait_serving()
        tree = proc.tree(one.process.pid)
        assert len(tree) == 3
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0
        assert not any(proc.start_time(pid) for pid in tree)
