"""Restarts in steps of a real instance under load: what happens in the middle loses nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.supervisor.instance import SERVER, Instance, load
from tests.supervisor.test_rescue_live import share, stop
from tests.waiting import wait_until

from segue.linux import sysctl
from segue.probe.result import Result

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

WORKERS = 3


def by_turns(tmp_path: Path, then: str) -> tuple[str, ...]:
    """A command whose workers do something else from the second newcomer on."""
    turn = f"[ $SEGUE_GENERATION = 1 ] || mkdir {tmp_path}/first 2>/dev/null || {{ {then}; }}"
    return ("sh", "-c", f"{turn}; exec {' '.join(SERVER)}")


def waits(tmp_path: Path) -> tuple[str, ...]:
    """A command whose newcomers start when there is a file, from the second one on."""
    return by_turns(tmp_path, f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done")


@contextlib.contextmanager
def lossless(one: Instance, *args: str) -> Iterator[None]:
    """No connection is lost meanwhile, and none is cut."""
    with load(*(args or ("--rate", "150"))) as finish:
        yield
        result: Result = finish()
    assert result.lost == 0, (result.counts, result.examples, one.said())
    assert result.total > 20
    assert one.status()["cut"] == 0


def begin(one: Instance) -> None:
    """A restart in steps, up to where its second newcomer starts."""
    assert one.ask("restart", step=1, wait=False)["generation"] == 2
    middle = "step 2 of 3: 1 of 3 worker(s) are of generation 2; new ones start"
    wait_until(lambda: one.status().get("progress") == middle, middle)


def most_workers(one: Instance, generation: int) -> int:
    """The most workers at any look, until those of this generation serve alone."""
    most = 0

    def over() -> bool:
        nonlocal most
        everyone = one.status()["workers"]
        most = max(most, len(everyone))
        return {(w["generation"], w["stage"]) for w in everyone} == {(generation, "serving")}

    wait_until(over, f"generation {generation} alone")
    return most


@pytest.mark.parametrize("engine", ["migrate", "hash", "drain"])
def test_a_restart_in_steps_loses_nothing(netns: int, tmp_path: Path, engine: str) -> None:
    """By the setting and by the request; there is never more than one worker too many."""
    sysctl.write("net.ipv4.tcp_migrate_req", "1" if engine == "hash" else "0")
    flags = ("--engine", engine, "--workers", str(WORKERS), "--restart-step", "1")
    with Instance(tmp_path, *flags) as one:
        one.wait_serving(1, WORKERS)
        with lossless(one):
            one.ask("restart", wait=False)
            assert most_workers(one, 2) == WORKERS + 1
            answer = one.ask("restart", step=2)
            assert (answer["exit"], answer["generation"]) == (0, 3)
            one.wait_serving(3, WORKERS)
        for said in ("step 1 of 3", "step 3 of 3", "step 1 of 2", "step 2 of 2"):
            assert said in one.said()


@pytest.mark.parametrize("engine", ["migrate", "drain"])
def test_one_that_fails_in_the_middle_is_answered_with_who_serves(
    netns: int, tmp_path: Path, engine: str
) -> None:
    """The restart exits with 3, and the old generation is complete again."""
    flags = ("--engine", engine, "--workers", str(WORKERS))
    with Instance(tmp_path, *flags, command=by_turns(tmp_path, "exit 7")) as one:
        one.wait_serving(1, WORKERS)
        with lossless(one):
            answer = one.ask("restart", step=1)
            assert answer["exit"] == 3
            assert answer["error"].endswith(
                "2 worker(s) of generation 1 and 1 worker(s) of generation 2 serve until"
                " generation 1 is complete again"
            )
            assert "exited with 7" in answer["error"]
            one.wait_serving(1, WORKERS)
        assert one.status()["progress"] == ""
        assert "generation 1 is complete again" in one.said()


def test_it_is_rolled_back_in_steps(netns: int, tmp_path: Path) -> None:
    """The newcomer that serves goes when an old worker is there again for it."""
    with Instance(tmp_path, "--workers", str(WORKERS), command=waits(tmp_path)) as one:
        one.wait_serving(1, WORKERS)
        with lossless(one):
            begin(one)
            assert one.ask("rollback")["generation"] == 1
            one.wait_serving(1, WORKERS)


def test_the_number_of_workers_may_change_in_the_middle(netns: int, tmp_path: Path) -> None:
    """More steps follow; the canary's orders are refused."""
    with Instance(tmp_path, "--workers", str(WORKERS), command=waits(tmp_path)) as one:
        one.wait_serving(1, WORKERS)
        with lossless(one):
            begin(one)
            assert one.ask("promote")["exit"] == 2
            assert one.ask("shift", percent=50)["exit"] == 2
            assert one.ask("scale", workers=4)["exit"] == 0
            (tmp_path / "go").touch()
            one.wait_serving(2, 4)


def test_a_second_restart_in_the_middle_replaces_both(netns: int, tmp_path: Path) -> None:
    """It has the same steps, and who serves serves until it is replaced."""
    with Instance(tmp_path, "--workers", str(WORKERS), command=waits(tmp_path)) as one:
        one.wait_serving(1, WORKERS)
        with lossless(one):
            begin(one)
            (tmp_path / "go").touch()
            assert one.ask("restart", replace=True, wait=False)["generation"] == 3
            assert most_workers(one, 3) <= WORKERS + 1


@pytest.mark.parametrize("how", ["kill", "reexec"])
def test_another_supervisor_goes_on_with_the_next_step(
    netns: int, tmp_path: Path, how: str
) -> None:
    """New code, or one that takes over after kill -9."""
    with Instance(tmp_path, "--workers", str(WORKERS), command=waits(tmp_path)) as one:
        one.wait_serving(1, WORKERS)
        with lossless(one):
            begin(one)
            if how == "kill":
                one.process.kill()
                one.process.wait()
                one.again()
                wait_until(lambda: one.status().get("phase") == "renewing", "a supervisor")
            else:
                assert one.ask("reexec") == {"exit": 0}
            (tmp_path / "go").touch()
            assert most_workers(one, 2) == WORKERS + 1
            assert len(one.workers("serving")) == WORKERS


def test_a_newcomer_that_stalls_in_the_middle_is_rescued(netns: int, tmp_path: Path) -> None:
    """It gets nothing new, the restart goes on, and it has its part when it accepts again."""
    with Instance(tmp_path, "--workers", str(WORKERS), command=waits(tmp_path)) as one:
        one.wait_serving(1, WORKERS)
        with lossless(one):
            begin(one)
            victim = next(w["pid"] for w in one.workers("serving") if w["generation"] == 2)
            stop(victim)
            wait_until(lambda: share(one, victim) == 0, "no share for the stalled worker")
            (tmp_path / "go").touch()
            wait_until(lambda: one.status()["working"] == 2, "the last step")
            os.kill(victim, signal.SIGCONT)
            wait_until(lambda: share(one, victim) > 30, "its share back")
        one.wait_serving(2, WORKERS)


def test_a_stop_in_the_middle_ends_everybody(netns: int, tmp_path: Path) -> None:
    """Those that serve finish, those that start are told to stop."""
    with Instance(tmp_path, "--workers", str(WORKERS), command=waits(tmp_path)) as one:
        one.wait_serving(1, WORKERS)
        begin(one)
        one.process.send_signal(signal.SIGTERM)
        assert one.wait() == 0
        assert "were in use when last seen" not in one.said()


def test_both_addresses_go_step_by_step(netns: int, tmp_path: Path) -> None:
    """A worker has a part at each of them or at none."""
    script = (
        "import socket, threading\n"
        "def serve(number):\n"
        "    listener = socket.socket(fileno=number)\n"
        "    while True:\n"
        "        client, _ = listener.accept()\n"
        "        client.recv(1000)\n"
        "        client.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n"
        "Connection: close\\r\\n\\r\\nok')\n"
        "        client.close()\n"
        "for n in (3, 4):\n"
        "    threading.Thread(target=serve, args=(n,)).start()\n"
    )
    flags = ("--bind", "127.0.0.1:8080", "--bind", "[::1]:8081", "--workers", "2")
    with Instance(tmp_path, *flags, command=(sys.executable, "-S", "-E", "-c", script)) as one:
        one.wait_serving(1, 2)
        with load("--rate", "80") as four, load("--rate", "80", address="[::1]:8081") as six:
            assert one.ask("restart", step=1)["exit"] == 0
            one.wait_serving(2, 2)
            assert [four().lost, six().lost] == [0, 0]
