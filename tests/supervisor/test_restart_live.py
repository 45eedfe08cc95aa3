"""Restarts of a real instance under load: the main job, by every engine."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import ADDRESS, DRAIN, SERVER, Instance, load
from tests.waiting import wait_until

from segue.linux import proc, sysctl

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]


@pytest.mark.parametrize("engine", ["migrate", "hash", DRAIN])
def test_three_restarts_under_load_lose_nothing(netns: int, tmp_path: Path, engine: str) -> None:
    """Every connection is answered, and only the last generation is left."""
    sysctl.write("net.ipv4.tcp_migrate_req", "1" if engine == "hash" else "0")
    with Instance(tmp_path, "--engine", engine, "--workers", "2") as one:
        one.wait_serving(1, 2)
        with load() as finish:
            for generation in (2, 3, 4):
                assert one.ask("restart")["generation"] == generation
            result = finish()
        assert result.lost == 0, (result.counts, result.examples, one.said())
        assert result.total > 50
        one.wait_serving(4, 2)
        assert one.status()["cut"] == 0
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0


def test_two_addresses_of_two_families_are_restarted_together(netns: int, tmp_path: Path) -> None:
    """A worker gets a descriptor for each bind, in their order, with their names."""
    script = (
        "import os, socket, threading\n"
        "assert os.environ['LISTEN_PID'] == str(os.getpid())\n"
        "names = os.environ['LISTEN_FDNAMES']\n"
        "def serve(number):\n"
        "    listener = socket.socket(fileno=number)\n"
        "    while True:\n"
        "        client, _ = listener.accept()\n"
        "        client.recv(1000)\n"
        "        said = f'{names} {number} {os.environ[\"SEGUE_GENERATION\"]}'.encode()\n"
        "        client.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n"
        "Connection: close\\r\\n\\r\\n' % len(said) + said)\n"
        "        client.close()\n"
        "for n in range(int(os.environ['LISTEN_FDS'])):\n"
        "    threading.Thread(target=serve, args=(3 + n,)).start()\n"
    )
    command = (sys.executable, "-S", "-E", "-c", script)
    flags = ("--bind", "web=127.0.0.1:8080", "--bind", "[::1]:8081")
    with Instance(tmp_path, *flags, command=command) as one:
        one.wait_serving()
        with load() as four, load(address="[::1]:8081") as six:
            one.ask("restart")
            one.wait_serving(2)
            assert [four().lost, six().lost] == [0, 0]
        for family, host, port, fd in (
            (socket.AF_INET, "127.0.0.1", 8080, 3),
            (socket.AF_INET6, "::1", 8081, 4),
        ):
            with socket.socket(family) as client:
                client.connect((host, port))
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert client.makefile("rb").read().endswith(f"web:bind1 {fd} 2".encode())


@pytest.mark.parametrize("engine", ["migrate", DRAIN])
def test_a_new_version_that_fails_changes_nothing(netns: int, tmp_path: Path, engine: str) -> None:
    """The restart says so with 3, the old generation serves on, and no connection was lost."""
    broken = tmp_path / "broken"
    command = ("sh", "-c", f"test -e {broken} && exit 7; exec {' '.join(SERVER)}")
    with Instance(tmp_path, "--engine", engine, command=command) as one:
        one.wait_serving()
        with load() as finish:
            broken.touch()
            answer = one.ask("restart")
            assert answer["exit"] == 3
            assert "exited with 7" in answer["error"]
            one.wait_serving(1)
            broken.unlink()
            assert one.ask("restart")["exit"] == 0
            result = finish()
        assert result.lost == 0, (result.counts, result.examples)


def test_a_new_version_that_is_never_ready_is_given_up(netns: int, tmp_path: Path) -> None:
    """After --ready-timeout, with what was missing."""
    broken = tmp_path / "broken"
    command = ("sh", "-c", f"test -e {broken} && exec sleep 60; exec {' '.join(SERVER)}")
    with Instance(tmp_path, "--ready-timeout", "0.5", command=command) as one:
        one.wait_serving()
        broken.touch()
        answer = one.ask("restart")
        assert answer["exit"] == 3
        assert "not ready after 0.5 s" in answer["error"]
        one.wait_serving(1)


def test_a_restart_that_replaces_gives_the_newcomers_up(netns: int, tmp_path: Path) -> None:
    """The first who asked is told, the second gets a generation of its own."""
    slow = tmp_path / "slow"
    slow.touch()
    stuck = f"test -e {slow} && [ $SEGUE_GENERATION = 2 ] && exec sleep 60"
    command = ("sh", "-c", f"{stuck}; exec {' '.join(SERVER)}")
    with Instance(tmp_path, command=command) as one:
        one.wait_serving()
        first = one.ask("restart", wait=False)
        assert first["generation"] == 2
        wait_until(lambda: one.workers("starting"), "the newcomer of generation 2")
        assert one.ask("restart", replace=True)["generation"] == 3
        one.wait_serving(3)
        assert "generation 3 takes its place" in one.said()


def test_a_canary_gets_its_part_until_promoted(netns: int, tmp_path: Path) -> None:
    """A tenth of new connections; then all; or none after a rollback."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        assert one.ask("restart", canary=10)["exit"] == 0
        assert {w["generation"]: w["share"] for w in one.status()["workers"]} == {1: 90, 2: 10}
        assert one.ask("rollback")["generation"] == 1
        one.wait_serving(1)
        assert one.ask("restart", canary=10)["exit"] == 0
        assert one.ask("promote")["generation"] == 3
        one.wait_serving(3)


def test_a_canary_is_shifted_and_workers_are_weighed(netns: int, tmp_path: Path) -> None:
    """Live: another part, a worker at a fourth of its sibling; 100 promotes, 0 rolls back."""
    with Instance(tmp_path, "--workers", "2") as one:
        one.wait_serving(1, 2)
        assert "no canary to shift" in one.ask("shift", percent=50)["error"]
        first, _ = one.workers("serving")
        assert one.ask("weights", weights={str(first["id"]): 0.25})["exit"] == 0
        wait_until(lambda: [w["share"] for w in one.workers("serving")] == [20, 80], "the weights")
        assert "there is no worker99" in one.ask("weights", weights={"99": 1})["error"]
        assert one.ask("weights", weights={"x": 1})["exit"] == 2
        assert one.ask("weights", weights={str(first["id"]): -1})["exit"] == 2
        with load() as finish:
            assert one.ask("restart", canary=10)["exit"] == 0
            for percent in (50, 5):
                assert one.ask("shift", percent=percent)["percent"] == percent
                wait_until(lambda: parts(one)[2] == percent, f"{percent} %")  # noqa: B023
            assert one.ask("shift", percent=101)["exit"] == 2
            assert one.ask("shift", percent=0)["generation"] == 1
            one.wait_serving(1, 2)
            assert one.ask("restart", canary=10)["exit"] == 0
            assert one.ask("shift", percent=100)["generation"] == 3
            one.wait_serving(3, 2)
            assert finish().lost == 0


def parts(one: Instance) -> dict[int, float]:
    """Generation -> percentage."""
    found: dict[int, float] = {}
    for worker in one.status()["workers"]:
        number = worker["generation"]
        found[number] = round(found.get(number, 0) + worker["share"], 1)
    return found


def test_a_kept_generation_can_be_gone_back_to(netns: int, tmp_path: Path) -> None:
    """With --keep a rollback finds the very same workers; without, there is nothing left."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        pid = one.workers("serving")[0]["pid"]
        with load() as finish:
            assert one.ask("restart", keep=60)["exit"] == 0
            assert one.workers("serving")[0]["generation"] == 2
            assert one.ask("rollback")["generation"] == 1
            one.wait_serving(1)
            assert one.workers("serving")[0]["pid"] == pid
            assert finish().lost == 0
        assert one.ask("restart")["exit"] == 0
        refused = one.ask("rollback")
        assert refused["exit"] == 2
        assert "nothing to go back to" in refused["error"]


def test_the_number_of_workers_changes_under_load(netns: int, tmp_path: Path) -> None:
    """Up and down again, and nothing is lost either way."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        with load() as finish:
            assert one.ask("scale", workers=3)["workers"] == 3
            one.wait_serving(1, 3)
            one.ask("scale", workers=1)
            one.wait_serving(1, 1)
            assert finish().lost == 0
        assert one.ask("scale", workers=0)["exit"] == 2


def test_twenty_restarts_leave_no_descriptor_and_no_process(netns: int, tmp_path: Path) -> None:
    """The supervisor holds after twenty what it held after two."""
    with Instance(tmp_path) as one:
        one.wait_serving()

        pid = one.process.pid

        def held() -> tuple[int, int]:
            return len(os.listdir(f"/proc/{pid}/fd")), len(proc.tree(pid))

        one.ask("restart")
        # The last client's connection, or a worker's pipe, may be being closed at this moment.
        looks = [held() for _ in range(50)]
        steady = min(looks)
        for _ in range(20):
            one.ask("restart")
        wait_until(
            lambda: all(now <= then for now, then in zip(held(), steady, strict=True)),
            f"no more than {steady} after twenty restarts, not {held()}",
        )


@pytest.mark.program("nginx")
@pytest.mark.parametrize("engine", ["migrate", DRAIN])
def test_a_server_that_binds_itself_is_restarted(netns: int, tmp_path: Path, engine: str) -> None:
    """Nginx with ``reuseport``, found in its process tree; no connection is lost."""
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 2; pid {tmp_path}/pid; error_log stderr error;"
        "events { worker_connections 512; }"
        f"http {{ access_log off; server {{ listen {ADDRESS} reuseport;"
        " location / { return 200 hello; } } }"
    )
    flags = ("--engine", engine, "--bind-by", "worker", "--stop-signal", "QUIT")
    with Instance(tmp_path, *flags, command=("nginx", "-c", str(config))) as one:
        one.wait_serving()
        with load() as finish:
            for _ in range(2):
                assert one.ask("restart")["exit"] == 0
            result = finish()
        assert result.lost == 0, (result.counts, result.examples)


def test_a_server_that_does_not_share_its_address_is_told(netns: int, tmp_path: Path) -> None:
    """--bind-by worker needs SO_REUSEPORT; the sentence says so, and the run ends with 3."""
    command = (sys.executable, "-m", "http.server", "8080", "--bind", "127.0.0.1")
    with Instance(tmp_path, "--bind-by", "worker", command=command) as one:
        assert one.wait() == 3
        assert "without SO_REUSEPORT, which --bind-by worker needs" in one.said()
