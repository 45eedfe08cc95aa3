"""Recycling with real workers under load: nothing is lost, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor.instance import ROOT, SERVER, Instance, load
from tests.waiting import PATIENCE, wait_until

from segue.linux import oom

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

# The example, and 1 MiB more after each answer; with "child" a child process has it.
GROWS = """
import asyncio, os, sys
sys.path.insert(0, sys.argv[1])
from examples import asyncio_server
kept = []
grow, ask = os.pipe()
if sys.argv[2:] == ["child"] and not os.fork():
    os.close(ask)
    os.closerange(3, grow)
    while os.read(grow, 1):
        kept.append(bytearray(b"x") * (1 << 20))
    os._exit(0)
async def answer(reader, writer):
    await asyncio_server.answer(reader, writer)
    if sys.argv[2:]:
        os.write(ask, b"x")
    else:
        kept.append(bytearray(b"x") * (1 << 20))
asyncio_server.main(answer)
"""
GROWING = (sys.executable, "-S", "-E", "-c", GROWS, str(ROOT))


def recycled(one: Instance) -> list[str]:
    """Why workers were recycled so far."""
    return re.findall(r"is recycled: (.+); its successor starts", one.said())


@contextlib.contextmanager
def none_lost() -> Iterator[None]:
    """Load all the time, of which nothing may be lost."""
    with load("--rate", "100") as finish:
        yield
        result = finish()
    assert result.total
    assert not result.lost, result.counts


def gone(one: Instance, workers: int = 2) -> bool:
    """No recycling is under way, and all serve."""
    status: dict[str, Any] = one.status()
    stages = [worker["stage"] for worker in status.get("workers", [])]
    return stages == ["serving"] * workers


def test_workers_are_recycled_one_at_a_time(netns: int, tmp_path: Path) -> None:
    """By what they were given; each successor is ready first, and is of the same generation."""
    with Instance(tmp_path, "--workers", "2", "--max-connections", "200") as one:
        one.wait_serving(1, 2)
        before = {worker["pid"] for worker in one.workers("serving")}
        with none_lost():
            wait_until(lambda: len(recycled(one)) >= 3, "three workers recycled")
            wait_until(lambda: gone(one), "the last one")
        status = one.status()
        assert status["working"] == 1
        assert {worker["generation"] for worker in status["workers"]} == {1}
        assert not before & {worker["pid"] for worker in status["workers"]}
        assert all(why.endswith("(--max-connections 200)") for why in recycled(one))
        order = re.findall(r"(is recycled:|is ready|has stopped)", one.said())
        # The two of the start, and then always a successor before a worker is gone.
        assert order == ["is ready"] * 2 + ["is recycled:", "is ready", "has stopped"] * len(
            recycled(one)
        )


@pytest.mark.parametrize("engine", ["migrate", "drain"])
def test_the_only_worker_is_recycled(netns: int, tmp_path: Path, engine: str) -> None:
    """By its age, whether or not connections migrate."""
    with Instance(tmp_path, "--engine", engine, "--max-lifetime", "2") as one:
        one.wait_serving()
        with none_lost():
            wait_until(lambda: len(recycled(one)) >= 2, "a successor recycled")
            wait_until(lambda: gone(one, 1), "its successor")
        assert "(--max-lifetime 2)" in recycled(one)[0]
        assert one.said().count("longer and longer pauses") == 1


@pytest.mark.parametrize("where", [(), ("child",)])
def test_a_worker_that_grows_is_recycled(
    netns: int, tmp_path: Path, where: tuple[str, ...]
) -> None:
    """By the memory of its process, and of one below it."""
    command = (*GROWING, *where)
    with Instance(tmp_path, "--workers", "2", "--max-rss", "100M", command=command) as one:
        one.wait_serving(1, 2)
        with none_lost():
            wait_until(lambda: recycled(one), "a worker recycled")
            wait_until(lambda: gone(one), "its successor")
        assert re.fullmatch(r"\d+ MB of \d+ MB \(--max-rss 100M\)", recycled(one)[0])
        wait_until(lambda: all(it["memory"] for it in one.workers("serving")), "looks at all")


def waiting(go: Path) -> tuple[str, ...]:
    """A server that starts when the file exists, but at once the first time."""
    first = f"{go}.first"
    script = (
        f"[ -e {first} ] && while [ ! -e {go} ]; do sleep 0.02; done; touch {first};"
        f" exec {shlex.join(SERVER)}"
    )
    return ("sh", "-c", script)


def test_a_successor_is_ended_first_for_want_of_memory(netns: int, tmp_path: Path) -> None:
    """Until it serves, like every newcomer; status says who is recycled."""
    go = tmp_path / "go"
    usual = oom.adjustment(os.getpid())
    with Instance(tmp_path, "--max-lifetime", "1", command=waiting(go)) as one:
        one.wait_serving()
        wait_until(lambda: one.workers("starting"), "the successor")
        pid = one.workers("starting")[0]["pid"]
        wait_until(lambda: oom.adjustment(pid) == oom.FIRST, "its value")
        (old,) = one.workers("serving")
        assert old["recycling"].endswith("(--max-lifetime 1)")
        go.touch()
        wait_until(lambda: oom.adjustment(pid) == usual, "the usual value")


def test_while_successors_fail_the_worker_serves_on(netns: int, tmp_path: Path) -> None:
    """It is said once, and the first successor that is ready takes over."""
    db = tmp_path / "db"
    db.touch()
    command = ("sh", "-c", f"[ -e {db} ] || exit 1; exec {shlex.join(SERVER)}")
    with Instance(tmp_path, "--max-lifetime", "2", command=command) as one:
        one.wait_serving()

        def served() -> int:
            return int(one.workers("serving")[0]["pid"])

        db.unlink()
        with none_lost():
            wait_until(lambda: "serves on until a successor" in one.said(), "failed starts")
            wait_until(lambda: one.said().count("exited with 1") >= 4, "more of them")
            (old,) = one.workers("serving")
            assert old["recycling"].endswith("no successor was ready so far")
            db.touch()
            wait_until(lambda: gone(one, 1) and served() != old["pid"], "a successor", 40.0)
        assert one.said().count("serves on until a successor is ready") == 1


@pytest.mark.parametrize("engine", ["migrate", "drain"])
def test_the_only_worker_dies_before_its_successor_is_ready(
    netns: int, tmp_path: Path, engine: str
) -> None:
    """Clients that come meanwhile wait, and are answered."""
    go = tmp_path / "go"
    flags = ("--engine", engine, "--max-lifetime", "1")
    with Instance(tmp_path, *flags, command=waiting(go)) as one, contextlib.ExitStack() as clients:
        one.wait_serving()
        wait_until(lambda: one.workers("starting"), "the successor")
        os.kill(one.workers("serving")[0]["pid"], signal.SIGKILL)
        wait_until(lambda: not one.workers("serving"), "its end")
        asked = []
        for _ in range(20):
            client = socket.create_connection(("127.0.0.1", 8080), timeout=PATIENCE)
            asked.append(clients.enter_context(client))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        go.touch()
        for client in asked:
            with client.makefile("rb") as answer:
                assert answer.read().startswith(b"HTTP/1.1 200")


def test_orders_come_at_any_time(netns: int, tmp_path: Path) -> None:
    """A restart, a scale, new code and a supervisor that is killed, each while one is recycled."""

    def under_way() -> bool:
        return any(worker["recycling"] for worker in one.workers("serving"))

    with Instance(tmp_path, "--workers", "2", "--max-connections", "60") as one:
        one.wait_serving(1, 2)
        with none_lost():
            for verb, more in (("restart", {}), ("scale", {"workers": 3}), ("reexec", {})):
                wait_until(under_way, "a worker recycled")
                assert one.ask(verb, **more)["exit"] == 0
            wait_until(under_way, "a worker recycled")
            os.kill(one.process.pid, signal.SIGKILL)
            one.process.wait()
            one.again()
            before = len(recycled(one))
            wait_until(lambda: len(recycled(one)) > before, "one more")
            wait_until(lambda: gone(one, 3), "its successor")
        assert one.status()["working"] == 2


def test_limits_outlive_the_supervisor(netns: int, tmp_path: Path) -> None:
    """A next one, and new code, go on with the age and with most of what was counted."""
    with Instance(tmp_path, "--max-lifetime", "3600", "--max-connections", "500") as one:
        one.wait_serving()
        (worker,) = one.workers("serving")

        def given() -> int:
            return sum(each["given"] for each in one.workers("serving"))

        with none_lost():
            wait_until(lambda: given() >= 100, "connections")
            os.kill(one.process.pid, signal.SIGKILL)
            one.process.wait()
            one.again()
            wait_until(lambda: one.workers("serving"), "the next supervisor")
            assert given() >= 50  # as it was written down, at each tenth of the limit
            assert one.ask("reexec")["exit"] == 0
            assert given() >= 50
            wait_until(lambda: recycled(one), "the worker recycled")
        assert one.workers("serving")[-1]["age"] < worker["age"] + 60


def test_where_nothing_counts_it_is_refused(netns: int, tmp_path: Path) -> None:
    """With a sentence, before anything is started."""
    with Instance(tmp_path, "--engine", "drain", "--max-connections", "5") as one:
        assert one.wait() == 2
        assert "--max-connections needs the counters of the engine migrate" in one.said()
