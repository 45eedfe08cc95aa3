"""The backlog that was asked for is had, whatever the server does to its listener."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import ADDRESS, Instance
from tests.waiting import wait_until

from segue.address import Address
from segue.linux import sysctl
from segue.observe.snapshot import Observer

pytestmark = pytest.mark.root

# It listens again with a backlog of its own, as most servers do; and after SIGUSR1.
SERVER = """
import signal, socket
listener = socket.socket(fileno=3)
def again(*_):
    listener.listen(20)
    print("listened again", flush=True)
signal.signal(signal.SIGUSR1, again)
listener.listen(10)
while True:
    listener.accept()[0].close()
"""
COMMAND = (sys.executable, "-S", "-E", "-c", SERVER)


def backlogs() -> list[int]:
    """Those of all listeners."""
    with Observer() as observer:
        return [one.backlog for one in observer.snapshot(Address.parse(ADDRESS)).listeners]


@pytest.mark.parametrize("engine", ["migrate", "drain"])
def test_it_is_had_from_the_first_client_on(netns: int, tmp_path: Path, engine: str) -> None:
    """After starts, a restart, new code, and when the server listens once more."""
    flags = ("--bind", ADDRESS, "--backlog", "700", "--engine", engine, "--workers", "2")
    with Instance(tmp_path, *flags, command=COMMAND) as one:
        one.wait_serving(workers=2)
        assert backlogs() == [700, 700]
        assert one.ask("restart")["exit"] == 0
        one.wait_serving(2, workers=2)
        assert backlogs() == [700, 700]
        one.ask("reexec")
        one.wait_serving(2, workers=2)
        for worker in one.workers("serving"):
            os.kill(worker["pid"], signal.SIGUSR1)
        wait_until(lambda: one.said().count("listened again") == 2, one.said())
        wait_until(lambda: backlogs() == [700, 700], one.said())
        assert "somaxconn" not in one.said()


def test_a_limit_of_the_system_is_said(netns: int, tmp_path: Path) -> None:
    """With its name and its value; the queue is as long as it may be."""
    sysctl.write("net.core.somaxconn", "128")
    with Instance(tmp_path, command=COMMAND) as one:
        one.wait_serving()
        assert "a listener holds 128 waiting connections, and not 2048 (--backlog)" in one.said()
        assert "net.core.somaxconn is 128" in one.said()
        assert backlogs() == [128]
        sysctl.write("net.core.somaxconn", "4096")
        wait_until(lambda: backlogs() == [2048], one.said())


# It opens its own listener, with a short queue, unless the file is there.
OWN = """
import os, socket, sys, time
while os.path.exists(sys.argv[1]):
    time.sleep(0.02)
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", 8080))
listener.listen(10)
while True:
    listener.accept()[0].close()
"""


def test_at_the_listener_of_the_last_worker_as_many_may_wait(netns: int, tmp_path: Path) -> None:
    """When it has died, though its own server listened with less: nobody accepts for a while."""
    held_up = tmp_path / "held up"
    command = (sys.executable, "-S", "-E", "-c", OWN, str(held_up))
    flags = ("--bind", ADDRESS, "--bind-by", "worker")
    with Instance(tmp_path, *flags, command=command) as one:
        one.wait_serving()
        assert backlogs() == [10]
        held_up.touch()
        os.kill(one.workers("serving")[0]["pid"], signal.SIGKILL)
        wait_until(lambda: backlogs() == [2048], one.said())
        held_up.unlink()
        wait_until(lambda: backlogs() == [10], one.said())
