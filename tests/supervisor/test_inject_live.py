"""Servers that bind themselves and cannot be asked for SO_REUSEPORT, restarted all the same."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.test_bad_input import NOBODY
from tests.supervisor.instance import ADDRESS, Instance, load, wait_for_load
from tests.waiting import wait_until

from segue.linux import cgroup
from segue.supervisor.workers.injection import directory_of

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.15")]

HTTP_SERVER = (sys.executable, "-m", "http.server", "{port}", "--bind", "{host}")
FLAGS = ("--bind-by", "worker", "--inject")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[str]:
    """Where the instance's cgroup will be; removed if a failed test left it."""
    path = directory_of(f"{tmp_path}/run/t", [8080])
    yield path
    cgroup.remove(path, 10)


def test_http_server_is_restarted_under_load(netns: int, tmp_path: Path, place: str) -> None:
    """It binds its one listener as it always did; nothing is lost, and no cgroup is left."""
    with Instance(tmp_path, *FLAGS, command=HTTP_SERVER) as one:
        one.wait_serving()
        assert cgroup.members(place) == (one.workers("serving")[0]["pid"],)
        with load("--rate", "40") as finish:  # its backlog is 5
            for generation in (2, 3):
                wait_for_load()
                assert one.ask("restart")["generation"] == generation
            wait_for_load()
            result = finish()
        assert result.lost == 0, (result.counts, result.examples, one.said())
        assert result.total > 100
        one.wait_serving(3)
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0
    assert not os.path.exists(place)


@pytest.mark.program("nginx")
@pytest.mark.parametrize("engine", ["migrate", "drain"])
def test_nginx_without_reuseport_is_restarted_under_load(
    netns: int, tmp_path: Path, place: str, engine: str
) -> None:
    """Its master binds, its workers inherit: all of them are in the cgroup."""
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 2; pid {tmp_path}/pid; error_log stderr error;"
        "events { worker_connections 512; }"
        f"http {{ access_log off; server {{ listen {ADDRESS};"
        " location / { return 200 hello; } } }"
    )
    flags = (*FLAGS, "--engine", engine, "--stop-signal", "QUIT")
    with Instance(tmp_path, *flags, command=("nginx", "-c", str(config))) as one:
        one.wait_serving()
        assert len(cgroup.members(place)) == 3
        with load() as finish:
            for _ in range(2):
                wait_for_load()
                assert one.ask("restart")["exit"] == 0
            wait_for_load()
            result = finish()
        assert result.lost == 0, (result.counts, result.examples)
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0
    assert not os.path.exists(place)


def test_a_supervisor_that_takes_over_finds_cgroup_and_program(
    netns: int, tmp_path: Path, place: str
) -> None:
    """Killed, started again: the next generation is in the same cgroup and binds beside the old."""
    with Instance(tmp_path, *FLAGS, command=HTTP_SERVER) as one:
        one.wait_serving()
        with load() as finish:
            one.process.send_signal(signal.SIGKILL)
            one.wait()
            one.again()
            wait_until(lambda: "took over 1 worker(s)" in one.said(), one.said())
            one.wait_serving()
            assert one.ask("restart")["exit"] == 0
            one.wait_serving(2)
            result = finish()
        assert cgroup.members(place) == (one.workers("serving")[0]["pid"],)
        assert result.lost == 0, (result.counts, result.examples, one.said())
        assert one.ask("reexec")["exit"] == 0
        wait_until(lambda: "new code" in one.said(), one.said())
        assert one.ask("restart")["exit"] == 0
        one.wait_serving(3)
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0
    assert not os.path.exists(place)


def test_whether_to_inject_cannot_change_while_workers_run(
    netns: int, tmp_path: Path, place: str
) -> None:
    """The next supervisor must go on with it, and says so."""
    with Instance(tmp_path, *FLAGS, command=HTTP_SERVER) as one:
        one.wait_serving()
        one.process.send_signal(signal.SIGKILL)
        one.wait()
        with_it, one.argv = one.argv, [word for word in one.argv if word != "--inject"]
        one.again()
        assert one.wait() == 2
        assert "were started with --inject" in one.said()
        one.argv = with_it
        one.again()
        one.wait_serving()
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0


def test_a_command_that_does_not_start_leaves_no_cgroup(
    netns: int, tmp_path: Path, place: str
) -> None:
    """Its worker is not there, and neither is what was made for it."""
    with Instance(tmp_path, *FLAGS, command=("no-such-program-here",)) as one:
        assert one.wait() == 3
        assert "there is no such program" in one.said()
    assert not os.path.exists(place)


@pytest.mark.program("setpriv")
def test_without_the_right_it_is_said_before_anything_starts(netns: int) -> None:
    """An ordinary user may not make a cgroup here: 1, and what would permit it."""
    with tempfile.TemporaryDirectory() as reachable:
        os.chmod(reachable, 0o777)
        os.mkdir(f"{reachable}/run")
        os.chown(f"{reachable}/run", 65534, 65534)
        with Instance(Path(reachable), *FLAGS, command=HTTP_SERVER, before=NOBODY) as one:
            assert one.wait() == 1
            assert "making the cgroup" in one.said()
            assert "Delegate=" in one.said()


@pytest.mark.program("setpriv")
def test_without_the_capability_it_is_named(netns: int, tmp_path: Path, place: str) -> None:
    """Root that may write cgroups and load nothing: 1, and no cgroup is left."""
    before = ("setpriv", "--bounding-set=-bpf,-net_admin,-sys_admin", "--inh-caps=-all")
    with Instance(tmp_path, *FLAGS, command=HTTP_SERVER, before=before) as one:
        assert one.wait() == 1
        assert "it needs CAP_BPF and CAP_NET_ADMIN" in one.said()
    assert not os.path.exists(place)
