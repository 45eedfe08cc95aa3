"""``segue rescue``: what waits behind a stalled one of somebody else's servers is served."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.supervisor.attaching import (
    HERE,
    Attach,
    Servers,
    answered_by,
    listening,
    pinned,
    servers,
)
from tests.supervisor.instance import ROOT, load
from tests.supervisor.test_faults_live import answered, connect
from tests.supervisor.test_rescue_live import share, stop
from tests.waiting import PATIENCE, wait_until

from segue.linux import proc, sysctl
from segue.linux.pidfd import duplicate_socket
from segue.observe.snapshot import Observer

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14"), pytest.mark.program("mount")]


@pytest.fixture
def pool(netns: int) -> Iterator[Servers]:
    """Servers in this test's namespace, where the kernel migrates nothing by itself."""
    sysctl.write("net.ipv4.tcp_migrate_req", "0")
    with servers() as made:
        yield made


def rescuing(tmp_path: Path, bpffs: str) -> Attach:
    return Attach(tmp_path, bpffs, verb="rescue")


def ended(one: Attach, number: int = signal.SIGINT) -> int:
    """The exit code after this signal."""
    one.process.send_signal(number)
    return one.wait()


def test_what_waits_behind_a_stalled_server_is_served(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """As under segue run: all are answered, nothing new while it stands, its share when it goes
    on, and the group as it was when the rescue ends.
    """
    victim, other = pool.plain(), pool.plain()
    with rescuing(tmp_path, bpf_directory) as one:
        one.wait_attached(2)
        stop(victim.pid)
        assert answered(connect(20)) == 20
        wait_until(lambda: share(one, victim.pid) == 0, "no share for the stalled server")
        assert set(answered_by(20)) == {other.pid}
        (stalled,) = [w for w in one.workers("serving") if w["pid"] == victim.pid]
        assert stalled["stalled"] > 0
        assert stalled["rescued"] == one.status()["rescued"] > 0
        assert f"(pid {victim.pid}) has accepted nothing for" in one.said()
        os.kill(victim.pid, signal.SIGCONT)
        wait_until(lambda: share(one, victim.pid) == 50, "its share back")
        assert "accepts again" in one.said()
        assert set(answered_by(60)) == {victim.pid, other.pid}
        before = listening()
        assert ended(one) == 0
        assert not pinned(bpf_directory)
        assert listening() == before
        assert set(answered_by(60)) == {victim.pid, other.pid}


def test_a_server_that_waits_for_data_is_looked_after(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """With TCP_DEFER_ACCEPT it accepts no silent knock: it is found awake by one that is not."""
    victim, other = pool.plain(), pool.plain()
    for server in (victim, other):
        with duplicate_socket(server.pid, next(iter(proc.sockets(server.pid).values()))) as taken:
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
    with rescuing(tmp_path, bpf_directory) as one:
        one.wait_attached(2)
        stop(victim.pid)
        assert answered(connect(20)) == 20
        wait_until(lambda: share(one, victim.pid) == 0, "no share for the stalled server")
        os.kill(victim.pid, signal.SIGCONT)
        wait_until(lambda: share(one, victim.pid) == 50, "its share back")
        assert ended(one) == 0


@pytest.mark.parametrize("how", ["sleep", "spin"])
def test_nothing_is_lost_through_stalls_under_load(
    pool: Servers, tmp_path: Path, bpf_directory: str, how: str
) -> None:
    """A loop that blocks, of a server without a supervisor; it serves on afterwards."""
    command = (sys.executable, "-m", "examples.stalling", str(HERE))
    victim = pool.start("env", f"STALL={how}:1", *command)
    pool.start(*command)
    with rescuing(tmp_path, bpf_directory) as one:
        one.wait_attached(2)
        with load() as finish:
            os.kill(victim.pid, signal.SIGUSR2)
            wait_until(lambda: "has accepted nothing" in one.said(), "a rescue")
            wait_until(lambda: "accepts again" in one.said(), "the end of a stall")
            result = finish()
        assert result.lost == 0, (result.counts, one.said())
        assert ended(one, signal.SIGTERM) == 0
    assert victim.pid in answered_by(60)


def test_a_listener_is_not_held_open_by_being_looked_after(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """A stalled server that is killed: its listener is gone, and its queue with its sibling."""
    victim, other = pool.plain(), pool.plain()
    with rescuing(tmp_path, bpf_directory) as one:
        one.wait_attached(2)
        stop(victim.pid)
        assert answered(connect(20)) == 20
        wait_until(lambda: share(one, victim.pid) == 0, "no share for the stalled server")
        pool.stop(victim, signal.SIGKILL)
        assert len(listening()) == 1
        one.wait_attached(1)
        third = pool.plain()
        one.wait_attached(2)
        stop(third.pid)
        assert answered(connect(20)) == 20
        assert set(answered_by(20)) == {other.pid}


@pytest.mark.parametrize("after", ["rescue", "attach", "detach"])
def test_a_rescue_that_is_killed_leaves_a_group_that_serves(
    pool: Servers, tmp_path: Path, bpf_directory: str, after: str
) -> None:
    """Whoever stalled has no share until the next rescue, attach or detach gives it back."""
    victim, other = pool.plain(), pool.plain()
    with rescuing(tmp_path, bpf_directory) as one:
        one.wait_attached(2)
        stop(victim.pid)
        assert answered(connect(20)) == 20
        wait_until(lambda: share(one, victim.pid) == 0, "no share for the stalled server")
        one.kill()
        os.kill(victim.pid, signal.SIGCONT)
        assert set(answered_by(40)) == {other.pid}
        if after == "detach":
            assert one.detach().returncode == 0
        else:
            one.argv[one.argv.index("rescue")] = after
            one.again()
            one.wait_attached(2)
        assert set(answered_by(60)) == {victim.pid, other.pid}
        if after != "detach":
            assert ended(one) == 0
            # What an attach takes over is kept.
            assert bool(pinned(bpf_directory)) is (after == "attach")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_attached_group_is_rescued_for_as_long_as_it_is_asked(
    pool: Servers, tmp_path: Path, bpf_directory: str, number: int
) -> None:
    """By the segue attach that runs; the shares are back when the client goes, however it goes."""
    victim, other = pool.plain(), pool.plain()
    with Attach(tmp_path, bpf_directory) as one:
        one.wait_attached(2)
        asked = subprocess.Popen(
            [sys.executable, "-m", "segue", "rescue", str(HERE), "--name", "t"],
            cwd=ROOT, env=one.env, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with asked:
            wait_until(lambda: one.status()["rescue"] > 0, "the rescue")
            stop(victim.pid)
            assert answered(connect(20)) == 20
            wait_until(lambda: share(one, victim.pid) == 0, "no share for the stalled server")
            asked.send_signal(number)
            assert asked.wait(PATIENCE) == (-number if number == signal.SIGKILL else 0)
            assert asked.stderr
            assert "has accepted nothing for" in asked.stderr.read()
        wait_until(lambda: share(one, victim.pid) == 50, "its share back")
        assert one.status()["rescue"] == 0
        os.kill(victim.pid, signal.SIGCONT)
        assert set(answered_by(60)) == {victim.pid, other.pid}


def test_an_attach_that_rescues_leaves_everybody_a_share(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """--rescue; what is attached stays, and another who asks for a rescue is told."""
    victim, other = pool.plain(), pool.plain()
    with Attach(tmp_path, bpf_directory, "--rescue", "50ms") as one:
        one.wait_attached(2)
        stop(victim.pid)
        assert answered(connect(20)) == 20
        wait_until(lambda: share(one, victim.pid) == 0, "no share for the stalled server")
        answer = one.ask("rescue", after="50ms")
        assert "rescues already" in answer["error"]
        assert ended(one) == 0
        assert pinned(bpf_directory)
        os.kill(victim.pid, signal.SIGCONT)
        assert set(answered_by(60)) == {victim.pid, other.pid}


def test_what_waits_nowhere_else_stays(pool: Servers, tmp_path: Path, bpf_directory: str) -> None:
    """All stall: nothing is moved and the shares stay; the same with the last one that listens."""
    pids = [pool.plain().pid, pool.plain().pid]
    with rescuing(tmp_path, bpf_directory) as one:
        one.wait_attached(2)
        for pid in pids:
            stop(pid)
        clients = connect(40)
        with Observer() as observer:
            wait_until(lambda: sum(observer.queued(HERE).values()) >= 40, "the queues")
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert answered(clients) == 40
        wait_until(lambda: [share(one, pid) for pid in pids] == [50, 50], "both shares")
        pool.stop(pool.running[0])
        one.wait_attached(1)
        stop(pids[1])
        clients = connect(5)
        with Observer() as observer:
            wait_until(lambda: sum(observer.queued(HERE).values()) == 5, "five in the queue")
        os.kill(pids[1], signal.SIGCONT)
        assert answered(clients) == 5


@pytest.mark.program("nginx")
def test_the_worker_of_nginx_that_stalls_is_told_from_those_that_inherit_its_listener(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """By who watches it; after a reload, which leaves the listeners and no worker, too."""
    conf = tmp_path / "nginx.conf"
    paths = "".join(
        f"{name}_temp_path {tmp_path}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf.write_text(
        f"daemon off;\nworker_processes 2;\npid {tmp_path}/pid;\n"
        f"events {{ worker_connections 512; }}\nhttp {{\naccess_log off;\n{paths}"
        f"server {{ listen {HERE} reuseport; location / {{ return 200 hello; }} }}\n}}\n"
    )
    argv = ("nginx", "-p", str(tmp_path), "-e", f"{tmp_path}/log", "-c", str(conf))
    nginx = pool.start(*argv, listeners=2)
    wait_until(lambda: len(proc.children(nginx.pid)) == 2, "two workers")
    with rescuing(tmp_path, bpf_directory) as one:
        one.wait_attached(2)
        for reload in (False, True):
            if reload:
                before = set(proc.children(nginx.pid))
                nginx.send_signal(signal.SIGHUP)
                wait_until(
                    lambda: (
                        len(now := proc.children(nginx.pid)) == 2 and before.isdisjoint(now)  # noqa: B023  # asked at once
                    ),
                    "two new workers",
                )
            victim = proc.children(nginx.pid)[0]
            stop(victim)
            assert answered(connect(20)) == 20
            wait_until(lambda: share(one, victim) == 0, "no share for it")  # noqa: B023
            os.kill(victim, signal.SIGCONT)
            wait_until(lambda: share(one, victim) == 50, "its share back")  # noqa: B023
            assert f"(pid {victim} is stopped in" in one.said() or reload
        assert ended(one) == 0
