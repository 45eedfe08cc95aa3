"""``segue adopt``: what it says and changes, and real servers handed over by it under load."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from io import StringIO
from pathlib import Path

import pytest
from tests.linux.unprivileged import as_nobody
from tests.policy.clients import handshakes_over
from tests.supervisor.instance import ADDRESS, SERVER, Instance, load, wait_for_load
from tests.waiting import PATIENCE, wait_until

from segue.address import Address
from segue.cli.main import main
from segue.engine.adoption import of_process
from segue.linux import netns as namespaces
from segue.linux import proc, sysctl
from segue.linux.sockopt import open_listener
from segue.observe.snapshot import Observer, Part

pytestmark = pytest.mark.root
HERE = Address.parse(ADDRESS)
Said = pytest.CaptureFixture[str]
# Connections a second for http.server, whose backlog is 5: it may stand still for 80 ms.
FEW = ("--rate", "60")
HTTP_SERVER = (sys.executable, "-m", "http.server", "8080", "--bind", "127.0.0.1")


@contextmanager
def listening(*command: str, at: Address = HERE) -> Iterator[subprocess.Popen[bytes]]:
    """A server, once it listens at 8080; killed at the end if it still runs."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until(lambda: holders(process.pid, at), f"{command} listens")
        yield process
    finally:
        process.kill()
        while left := proc.session(process.pid):
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.wait(PATIENCE)


def holders(pid: int, at: Address = HERE) -> list[int]:
    """Which of a process and those below it have a listener there."""
    with Observer() as observer:
        inodes = {one.inode for one in observer.snapshot(at).listeners}
    return [one for one in proc.tree(pid) if inodes & proc.sockets(one).keys()]


def busy(pid: int, at: Address = HERE) -> bool:
    """A connection waits for this process or is being served by it."""
    with Observer() as observer:
        group = observer.snapshot(at, Part.OWNERS, Part.CONNECTIONS)
    waiting = any(one.queue for one in group.listeners if pid in one.owners)
    return waiting or bool(group.held_by(frozenset(proc.tree(pid))))


def wait_idle(pid: int, at: Address = HERE) -> None:
    """Until this process has nothing left, of which a handshake under way may be the last."""
    handshakes_over(at)
    wait_until(lambda: not busy(pid, at), f"{pid} has nothing left")


def answered_by_old() -> bool:
    """By http.server, which gives its name."""
    with socket.create_connection((HERE.host, HERE.port), timeout=PATIENCE) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b"SimpleHTTP" in client.recv(4096)


def nginx(directory: Path, reuseport: str) -> tuple[str, ...]:
    """The command of an nginx of its own at 8080."""
    directory.mkdir()
    (directory / "conf").write_text(
        f"daemon off; worker_processes 1; pid {directory}/pid; error_log stderr error;"
        "events { worker_connections 512; }"
        f"http {{ access_log off; server {{ listen {ADDRESS} {reuseport};"
        " location / { return 200 hello; } } }"
    )
    return "nginx", "-c", str(directory / "conf")


def test_it_says_what_it_did_and_what_comes_next(netns: int, capsys: Said) -> None:
    """Once by pid, again by port: it is shareable already; --undo puts it back; all of it is 0."""
    with socket.create_server((HERE.host, HERE.port)):
        sysctl.write("net.ipv4.tcp_migrate_req", "0")
        assert main(["adopt", str(os.getpid())]) == 0
        said = capsys.readouterr().out
        assert f"127.0.0.1:8080 of {proc.command(os.getpid())} (pid {os.getpid()}): is" in said
        assert "is shareable now" in said
        assert "start the successor as uid 0" in said
        assert "are reset, unless" in said
        sysctl.write("net.ipv4.tcp_migrate_req", "1")
        assert main(["adopt", ":8080"]) == 0
        said = capsys.readouterr().out
        assert "is shareable already" in said
        assert "move to the successor: net.ipv4.tcp_migrate_req is 1" in said
        assert main(["adopt", "--undo", ADDRESS]) == 0
        assert "is not shareable any more" in capsys.readouterr().out
        assert not of_process(os.getpid())[0].shareable
        assert main(["adopt", "--undo", ":8080"]) == 0
        assert "was not shareable" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([":8080"], "no process listens at port 8080"),
        (["127.0.0.1:8080"], "no process listens at 127.0.0.1:8080"),
        (["0"], "0 is not a process id; for a port write :0"),
        (["nginx"], "is not an address"),
        ([":0"], "port 0"),
        ([":99999"], "above 65535"),
        ([":80", "--port", "80"], "--port needs a PID"),
        (["1", "--port", "0"], "not in the range"),
        (["1", "--netns", "x"], "--netns needs :PORT"),
        ([":80", "--netns", "x"], "does not name a network namespace"),
        ([], "Missing argument"),
    ],
)
def test_what_makes_no_sense_is_2(netns: int, capsys: Said, args: list[str], said: str) -> None:
    """In one sentence, and nothing is touched."""
    assert main(["adopt", *args]) == 2
    assert said in capsys.readouterr().err


def test_without_the_right_it_is_1(netns: int) -> None:
    """And the capability is named, by pid and by port."""
    with listening(*HTTP_SERVER) as server:
        for target in (str(server.pid), ":8080"):

            def ask(target: str = target) -> tuple[int, str]:
                with redirect_stderr(StringIO()) as said:
                    return main(["adopt", target]), said.getvalue()

            code, said = as_nobody(ask)
            assert (code, "CAP_SYS_PTRACE" in said, said.count("\n")) == (1, True, 1), said


def test_a_server_in_another_namespace_is_found_by_pid(netns: int, capsys: Said) -> None:
    """And what becomes of its queue is told by that namespace's setting."""
    sysctl.write("net.ipv4.tcp_migrate_req", "1")
    with listening(*HTTP_SERVER) as old, namespaces.fresh():
        sysctl.write("net.ipv4.tcp_migrate_req", "0")
        assert main(["adopt", ":8080"]) == 2
        assert main(["adopt", str(old.pid)]) == 0
        assert "tcp_migrate_req is 1" in capsys.readouterr().out
        assert main(["adopt", ":8080", "--netns", str(old.pid)]) == 0
        assert "is shareable already" in capsys.readouterr().out


@pytest.mark.kernel("5.14")
@pytest.mark.program("nginx")
def test_nginx_without_reuseport_is_succeeded_under_load(netns: int, tmp_path: Path) -> None:
    """With the sysctl on: adopted, its successor started beside it, stopped; nothing is lost."""
    sysctl.write("net.ipv4.tcp_migrate_req", "1")
    with listening(*nginx(tmp_path / "old", "")) as old, load() as finish:
        assert main(["adopt", str(old.pid)]) == 0
        with listening(*nginx(tmp_path / "new", "reuseport")) as new:
            wait_until(lambda: len(holders(new.pid)) == 2, "its worker runs")
            wait_for_load()
            old.send_signal(signal.SIGQUIT)
            assert old.wait(PATIENCE) == 0
            wait_for_load()
            result = finish()
    assert result.lost == 0, (result.counts, result.examples)
    assert result.total > 100


@pytest.mark.kernel("5.14")
@pytest.mark.parametrize("engine", ["migrate", "drain"])
def test_a_server_that_cuts_what_it_accepted_is_succeeded_under_load(
    netns: int, tmp_path: Path, engine: str
) -> None:
    """http.server ends at once when told to: segue run beside it takes what is new, without the
    sysctl, until the old one has nothing left.
    """
    sysctl.write("net.ipv4.tcp_migrate_req", "0")
    with listening(*HTTP_SERVER) as old, load(*FEW) as finish:
        with Instance(tmp_path) as refused:
            assert refused.wait() == 1
            assert re.search(r"belongs to pid \d+ .*starts with --beside", refused.said())
        assert main(["adopt", ":8080"]) == 0
        with Instance(tmp_path, "--beside", "--engine", engine, command=SERVER) as one:
            wait_until(lambda: one.workers("serving"), one.said())
            wait_for_load()
            wait_idle(old.pid)
            old.kill()
            old.wait(PATIENCE)
            wait_for_load()
            assert one.ask("restart")["exit"] == 0
            result = finish()
    assert result.lost == 0, (result.counts, result.examples)
    assert result.total > 100


@pytest.mark.kernel("5.14")
def test_until_the_new_one_is_ready_the_old_one_gets_everything(netns: int, tmp_path: Path) -> None:
    """A worker that takes long to start keeps nobody waiting, and one that never starts leaves
    the port to the kernel's hash again.
    """
    gate = tmp_path / "gate"
    slow = f"until test -e {gate}; do sleep 0.02; done; exec {' '.join(SERVER)}"
    with listening(*HTTP_SERVER) as old:
        assert main(["adopt", str(old.pid)]) == 0
        flags = ("--beside", "--engine", "migrate")
        with Instance(tmp_path, *flags, command=("sh", "-c", slow)) as one:
            wait_until(lambda: one.workers("starting"), "a worker that is not ready")
            assert [answered_by_old() for _ in range(40)] == [True] * 40
            gate.touch()
            one.wait_serving()
            assert not any(answered_by_old() for _ in range(40))
            one.ask("stop")
            assert one.wait() == 0
        with Instance(tmp_path, *flags, command=("false",)) as failing:
            assert failing.wait() == 3
        with open_listener(HERE, backlog=64) as another:
            clients = [socket.create_connection((HERE.host, HERE.port)) for _ in range(64)]
            another.settimeout(PATIENCE)
            another.accept()[0].close()  # one of 64 in 2**64 tries does not get here
            for client in clients:
                client.close()


@pytest.mark.kernel("5.14")
@pytest.mark.parametrize("itself", [False, True], ids=["supervisor", "worker"])
@pytest.mark.parametrize("asked", ["[::]:8080", "0.0.0.0:8080"])
def test_a_server_of_both_families_is_succeeded(
    netns: int, tmp_path: Path, asked: str, itself: bool
) -> None:
    """It takes IPv4 at its IPv6 wildcard, and its successor gets into the same group: a listener
    of the supervisor's, or http.server's own with --inject; nothing is lost.
    """
    sysctl.write("net.ipv4.tcp_migrate_req", "0")
    both = (sys.executable, "-m", "http.server", "8080", "--bind", "::")
    everywhere = Address.parse("[::]:8080")
    flags: tuple[str, ...] = ("--beside", "--bind", asked, "--engine", "migrate")
    with listening(*both, at=everywhere) as old, load(*FEW) as finish:
        assert main(["adopt", str(old.pid)]) == 0
        if itself:
            flags = (*flags, "--bind-by", "worker", "--inject")
        with Instance(tmp_path, *flags, command=both if itself else SERVER) as one:
            one.wait_serving()
            wait_for_load()
            wait_idle(old.pid, everywhere)
            old.kill()
            old.wait(PATIENCE)
            wait_for_load()
            result = finish()
            assert one.ask("stop")["exit"] == 0
            assert one.wait() == 0
    assert result.lost == 0, (result.counts, result.examples)
    assert result.total > 100


def test_beside_another_instance_nothing_starts(netns: int, tmp_path: Path) -> None:
    """Its program would be replaced by ours: the sentence says how that one is restarted."""
    (tmp_path / "other").mkdir()
    with Instance(tmp_path) as one:
        one.wait_serving()
        env = {"SEGUE_DIRECTORY": str(tmp_path / "run")}
        with Instance(tmp_path / "other", "--beside", "--name", "u", env=env) as second:
            assert second.wait() == 1
            assert "segue restart --name t (control socket" in second.said()
        assert one.ask("restart")["exit"] == 0
