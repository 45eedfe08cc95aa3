"""What workers leave running when they end: named, and ended or kept."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import ADDRESS, Instance
from tests.waiting import wait_until

from segue.address import Address
from segue.engine.drain import Drain
from segue.linux import pidfd, proc
from segue.linux.sockopt import is_listening
from segue.observe.snapshot import Observer, Part
from segue.supervisor.front import Front
from segue.supervisor.inherited import end_left, may_end
from segue.supervisor.settings import Bind

pytestmark = pytest.mark.root

# Each worker starts a script with a session of its own and a direct child, then serves.  The
# script ignores SIGTERM.
SERVER = """
import os, socket, subprocess, sys
script, pids = sys.argv[1:]
one = subprocess.Popen([script], start_new_session=True, stdout=subprocess.DEVNULL)
two = subprocess.Popen(["sleep", "600"])
with open(pids, "a") as file:
    file.write(f"{one.pid}\\n{two.pid}\\n")
listener = socket.socket(fileno=3)
while True:
    listener.accept()[0].close()
"""


def started(directory: Path, *flags: str) -> Instance:
    """An instance whose workers run ``deploy.sh`` beside them."""
    script = directory / "deploy.sh"
    script.write_text("#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n")
    script.chmod(0o755)
    command = (sys.executable, "-S", "-E", "-c", SERVER, str(script), str(directory / "pids"))
    return Instance(directory, "--bind", ADDRESS, *flags, command=command)


def left(directory: Path) -> list[int]:
    """The processes that workers have started, in this order."""
    return [int(line) for line in (directory / "pids").read_text().split()]


def test_it_is_named_and_ended(netns: int, tmp_path: Path) -> None:
    """Whom it is told to stop is said, and who has to be killed."""
    with started(tmp_path, "--stop-timeout", "0.5") as one:
        one.wait_serving()
        script, child = left(tmp_path)
        wait_until(lambda: proc.command(script) == "deploy.sh", "the script runs")
        assert one.ask("restart")["exit"] == 0
        wait_until(lambda: proc.start_time(script) is None, one.said())
        assert proc.start_time(child) is None
        named = f"left pid {script} (deploy.sh) and pid {child} (sleep) running: told to stop"
        assert named in one.said()
        assert f"pid {script} (deploy.sh) did not end in time: killed" in one.said()


def test_what_a_script_has_started_is_told_too(netns: int, tmp_path: Path) -> None:
    """It is found once the script has ended, and is not merely killed in the end."""
    with started(tmp_path) as one:
        one.wait_serving()
        (tmp_path / "deploy.sh").write_text("#!/bin/sh\nsleep 601\n")
        assert one.ask("restart")["exit"] == 0
        one.wait_serving(2)
        first, _, script, _ = left(tmp_path)
        wait_until(lambda: proc.below(script), "the script has started something")
        (job,) = proc.below(script)
        assert one.ask("restart")["exit"] == 0
        wait_until(lambda: proc.start_time(job) is None, one.said())
        assert f"also left running: pid {job} (sleep): told to stop" in one.said()
        assert f"pid {job} (sleep) did not end in time" not in one.said()
        assert f"left pid {first} (deploy.sh)" in one.said()
        assert one.said().count(f"left pid {first} ") == 1, "the first worker left it"


def test_it_is_kept(netns: int, tmp_path: Path) -> None:
    """Also over new code, and over the end of the instance."""
    with started(tmp_path, "--leftovers", "keep") as one:
        one.wait_serving()
        first = left(tmp_path)
        try:
            wait_until(lambda: proc.command(first[0]) == "deploy.sh", "the script runs")
            assert one.ask("restart")["exit"] == 0
            one.wait_serving(2)
            assert f"left pid {first[0]} (deploy.sh) and pid {first[1]} (sleep) running: left" in (
                one.said()
            )
            assert one.ask("reexec")["exit"] == 0
            assert one.status()["leftovers"] == "keep"
            assert one.ask("stop")["exit"] == 0
            assert one.wait() == 0
            assert one.said().count(f"pid {first[0]} ") == 1, "said once, of the worker whose it is"
            assert all(proc.start_time(pid) is not None for pid in left(tmp_path))
        finally:
            for pid in left(tmp_path):
                with pidfd.opened(pid):
                    os.kill(pid, signal.SIGKILL)


# A server whose worker starts a daemon that has inherited its listener and no environment.
FORKING = """
import os, signal, socket, sys
pids, *where = sys.argv[1:]
if where:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((where[0], int(where[1])))
    listener.listen(100)
    os.dup2(listener.fileno(), 3)
else:
    listener = socket.socket(fileno=3)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    with open(pids, "a") as file:
        file.write(f"{os.getpid()}\\n")
    os.set_inheritable(3, True)
    os.execve("/bin/sleep", ["helper", "600"], {})
while True:
    listener.accept()[0].close()
"""


def listeners(address: Address) -> int:
    """How many listen at this address."""
    with Observer() as observer:
        return len(observer.snapshot(address).listeners)


@pytest.mark.parametrize("engine", ["migrate", "drain"])
@pytest.mark.parametrize("binder", ["supervisor", "worker"])
def test_nobody_listens_with_what_a_helper_has_inherited(
    netns: int, tmp_path: Path, engine: str, binder: str
) -> None:
    """After restarts, a crash and the end; the helpers themselves are kept."""
    where = Address.parse(ADDRESS)
    command: tuple[str, ...] = (sys.executable, "-S", "-E", "-c", FORKING, str(tmp_path / "pids"))
    flags = ("--leftovers", "keep", "--engine", engine, "--bind-by", binder, "--workers", "2")
    if binder == "worker":
        command = (*command, "{host}", "{port}")
    with Instance(tmp_path, "--bind", ADDRESS, *flags, command=command) as one:
        one.wait_serving(workers=2)
        try:
            for generation in (2, 3):
                assert one.ask("restart")["exit"] == 0
                one.wait_serving(generation, workers=2)
                wait_until(lambda: listeners(where) == 2, one.said())
            first, second = one.workers("serving")
            os.kill(first["pid"], signal.SIGKILL)
            wait_until(
                lambda: (
                    {it["pid"] for it in one.workers("serving")} - {first["pid"]} > {second["pid"]}
                ),
                one.said(),
            )
            wait_until(lambda: listeners(where) == 2, one.said())
            assert one.status()["fronts"][0]["strangers"] == []
            assert "not this instance's" not in one.said()
            assert one.ask("stop")["exit"] == 0
            assert one.wait() == 0
            assert listeners(where) == 0
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((where.host, where.port))
            helpers = left(tmp_path)
            assert len(helpers) == 7
            assert all(proc.start_time(pid) is not None for pid in helpers)
        finally:
            for pid in left(tmp_path):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("told", [False, True])
def test_a_next_supervisor_shuts_down_what_a_helper_has_inherited(
    netns: int, tmp_path: Path, *, told: bool
) -> None:
    """The worker ends while there is no supervisor: it was ``told`` to stop before, or crashes."""
    where = Address.parse(ADDRESS)
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{FORKING}"
    command = (sys.executable, "-S", "-E", "-c", stubborn, str(tmp_path / "pids"))
    with Instance(tmp_path, "--leftovers", "keep", "--workers", "2", command=command) as one:
        one.wait_serving(workers=2)
        try:
            if told:
                assert one.ask("scale", workers=1)["exit"] == 0
                wait_until(lambda: one.workers("stopping"), one.said())
            ending = one.workers("stopping" if told else "serving")[0]["pid"]
            one.process.kill()
            one.process.wait()
            os.kill(ending, signal.SIGKILL)
            wait_until(lambda: proc.start_time(ending) is None, "the worker ended")
            assert listeners(where) == 2
            one.again()
            serving = 1 if told else 2
            wait_until(lambda: len(one.workers("serving")) == serving, one.said())
            wait_until(lambda: listeners(where) == serving, one.said())
            wait_until(lambda: "open in pid" in one.said(), one.said())
            assert "not this instance's" not in one.said()
            assert all(proc.start_time(pid) is not None for pid in left(tmp_path))
        finally:
            for pid in left(tmp_path):
                os.kill(pid, signal.SIGKILL)


def test_what_waits_in_a_helpers_listener_is_not_reset(netns: int) -> None:
    """Where nothing can migrate, it is shut down only once it is empty."""
    bind = Bind.parse(ADDRESS, 0)
    with Observer() as observer:
        front = Front(0, bind, Drain(), observer)
        try:
            held = front.open(backlog=10, nodelay=True)
            front.open(backlog=10, nodelay=True)
            helper = socket.socket(fileno=os.dup(front.sockets[held.slot].fileno()))
            with helper, connected(front, held.slot):
                assert not may_end(helper, moves=front.moves)
                front.leave(held.slot, worker="worker 1.1", ended=True)
                assert is_listening(helper), "a connection waits there"
                assert front.left == {held.cookie: "worker 1.1"}
                helper.accept()[0].close()
                seen = observer.snapshot(bind.address, Part.OWNERS).by_cookie(held.cookie)
                assert seen is not None
                assert end_left(seen, moves=front.moves)
                assert not is_listening(helper)
        finally:
            front.close()


def connected(front: Front, slot: int) -> socket.socket:
    """A connection that waits at this listener."""
    client = socket.socket()
    client.bind(("127.0.0.1", 0))
    front.steering.pin(client.getsockname()[1], slot)
    client.connect((front.bind.address.host, front.bind.address.port))
    return client
