"""A worker that orders its own restart hears how it ended, and can tell its client."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.supervisor.instance import Instance
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

SERVER = Path(__file__).with_name("deploying_server.py")


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    """Open connections, closed at the end."""
    with ExitStack() as stack:
        yield stack


def command(tmp_path: Path) -> tuple[str, ...]:
    return (sys.executable, str(SERVER), str(tmp_path))


def go(tmp_path: Path, *generations: int) -> None:
    for one in generations:
        (tmp_path / f"go-{one}").touch()


def ask(clients: ExitStack, path: str) -> socket.socket:
    made = clients.enter_context(socket.create_connection(("127.0.0.1", 8080), PATIENCE))
    made.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    return made


def answer(client: socket.socket) -> str:
    return client.makefile("rb").read().decode().rpartition("\r\n\r\n")[2]


@pytest.mark.parametrize("step", ["0", "1"])
def test_a_handler_may_wait_for_its_own_restart(
    netns: int, tmp_path: Path, clients: ExitStack, step: str
) -> None:
    """It is answered as soon as the new workers serve, answers its client, and ends.

    In steps its worker is replaced last.
    """
    go(tmp_path, 2)
    flags = ("--workers", "2", "--restart-step", step)
    with Instance(tmp_path, *flags, command=command(tmp_path)) as one:
        one.wait_serving(1, 2)
        assert answer(ask(clients, "/deploy")).endswith(" rc 0")
        one.wait_serving(2, 2)
        assert "was killed" not in one.said()
        assert one.status()["cut"] == 0


def test_a_worker_that_waits_for_an_answer_is_spared_at_its_limits(
    netns: int, tmp_path: Path, clients: ExitStack
) -> None:
    """Its restart waits for another one, which takes longer than a worker may drain.  New code
    spares it too.
    """
    limits = ("--drain-timeout", "0.2", "--stop-timeout", "0.2")
    with Instance(tmp_path, "--workers", "2", *limits, command=command(tmp_path)) as one:
        one.wait_serving(1, 2)

        def all_have_connections() -> bool:
            ask(clients, "/hang")
            return all(worker["connections"] for worker in one.workers("serving"))

        wait_until(all_have_connections, "a connection at each worker")
        one.ask("restart", wait=False)
        wait_until(lambda: one.workers("starting"), "generation 2")
        deploy = ask(clients, "/deploy")
        wait_until(lambda: one.status()["queued"], "the restart of the handler")
        assert one.ask("reexec")["exit"] == 0
        go(tmp_path, 2)
        wait_until(lambda: "connection(s) cut" in one.said(), "the end of the other worker")
        (caller,) = (worker for worker in one.status()["workers"] if worker["generation"] == 1)
        go(tmp_path, 3)
        assert answer(deploy) == f"{caller['id']} rc 0"
        one.wait_serving(3, 2)


def test_what_a_dead_worker_left_is_spared_while_it_waits(
    netns: int, tmp_path: Path, clients: ExitStack
) -> None:
    """A script that restarts goes on after its worker has died, and is asked to end afterwards."""
    done = tmp_path / "done"
    (tmp_path / "deploy.sh").write_text(
        f"trap 'echo told >>{done}; exit' TERM\n"
        f"{sys.executable} -m segue restart\n"
        f"echo $? >>{done}\n"
        "while :; do sleep 0.02; done\n"
    )
    with Instance(tmp_path, command=command(tmp_path)) as one:
        one.wait_serving()
        (worker,) = one.workers("serving")
        answer(ask(clients, "/script"))
        wait_until(lambda: one.workers("starting"), "the restart of the script")
        os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda: f"worker 1.{worker['id']} (pid {worker['pid']}) left" in one.said(), "")
        go(tmp_path, 2)
        one.wait_serving(2)
        wait_until(lambda: done.exists() and "told" in done.read_text(), "the end of the script")
        assert done.read_text() == "0\ntold\n"
