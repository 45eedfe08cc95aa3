"""A cause that is elsewhere and passes: the supervisor outlives it, and clients wait."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
from functools import partial
from pathlib import Path

import pytest
from tests.supervisor.instance import SERVER, Instance
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]


def needing(path: Path) -> tuple[str, ...]:
    """A server that starts only while the file exists."""
    return ("sh", "-c", f"[ -e {path} ] || {{ echo no db; exit 1; }}; exec {shlex.join(SERVER)}")


def test_once_it_has_served_a_supervisor_outlives_deaths(netns: int, tmp_path: Path) -> None:
    """All workers die, and starts fail: a client that came meanwhile is answered by the
    first worker that starts again.
    """
    db = tmp_path / "db"
    db.touch()
    with Instance(tmp_path, "--workers", "3", command=needing(db)) as one:
        one.wait_serving(1, 3)
        db.unlink()
        for worker in one.workers("serving"):
            os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda: one.said().count("exited with 1") >= 6, "failed starts")
        assert "last: worker 1." in one.status()["outage"]
        client = socket.create_connection(("127.0.0.1", 8080), timeout=PATIENCE)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        db.touch()
        with client, client.makefile("rb") as answer:
            assert answer.read().startswith(b"HTTP/1.1 200")
        one.wait_serving(1, 3)
        assert one.status()["outage"] == ""


def test_a_first_start_waits_for_what_it_needs(netns: int, tmp_path: Path) -> None:
    """With --start-retry the first workers may fail until their database is there; without it the
    first failure ends the run.
    """
    db = tmp_path / "db"
    with Instance(tmp_path, command=needing(db)) as one:
        assert one.wait() == 3
    flags = ("--workers", "2", "--start-retry", "60")
    with Instance(tmp_path, *flags, command=needing(db)) as one:
        wait_until(lambda: one.said().count("exited with 1") >= 6, "failed starts")
        db.touch()
        one.wait_serving(1, 2)


# Answers five requests and exits with 0.
QUOTA = """
import socket
listener = socket.socket(fileno=3)
quota = 5
while quota:
    client, _ = listener.accept()
    if client.recv(1000):
        client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
        quota -= 1
    client.close()
"""


def serves(one: Instance, worker: int) -> bool:
    return [it["id"] for it in one.workers("serving")] == [worker]


def test_workers_that_end_by_their_quota_are_no_crashes(netns: int, tmp_path: Path) -> None:
    """Each worker ends after five requests: no limit is reached, and no client is lost."""
    command = (sys.executable, "-S", "-E", "-c", QUOTA)
    with Instance(tmp_path, "--crash-limit", "2", command=command) as one:
        for worker in range(1, 7):
            wait_until(partial(serves, one, worker), f"worker {worker}")
            for _ in range(5):
                client = socket.create_connection(("127.0.0.1", 8080), timeout=PATIENCE)
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                with client, client.makefile("rb") as answer:
                    assert answer.read().startswith(b"HTTP/1.1 200")
        one.wait_serving()
        assert "giving up" not in one.said()
