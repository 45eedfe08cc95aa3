"""Kept connections of a worker that stalls: their clients are answered by its siblings."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor.instance import Instance, wait_asleep
from tests.supervisor.test_carry_live import SERVERS, UVICORN, Client, kept
from tests.supervisor.test_tracing_live import told, tracing
from tests.waiting import wait_until

from segue.linux import proc
from segue.supervisor.control.history import read
from segue.supervisor.control.paths import Paths

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9")]

TWO = ("--workers", "2")
APP = (*TWO, "--carry", "app")
HTTP = (*TWO, "--carry", "http", "--idle-grace", "0.1")
HELLO = (*UVICORN, "examples.hello:app")


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Inside the block these processes do nothing."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        # A thread that still runs would read the next request.
        wait_until(lambda: all(map(proc.threads_stopped, pids)), f"{pids} are stopped")
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def answered(count: int) -> Iterator[list[Client]]:
    """So many clients, each with an answer, and no two of them asking at once."""
    with ExitStack() as stack:
        clients = [Client(random.Random(number)) for number in range(count)]
        for client in clients:
            stack.enter_context(closing(client.connection))
            client.ask()
        # The marks are written after the answers.
        wait_asleep(*by_pid(clients))
        yield clients


def by_pid(clients: list[Client]) -> dict[int, list[Client]]:
    """Those that each process has answered last."""
    found: dict[int, list[Client]] = {}
    for client in clients:
        found.setdefault(int(client.pids[-1]), []).append(client)
    return found


def awake(one: Instance) -> bool:
    """Nobody stalls, as far as is known."""
    return all(worker["stalled"] is None for worker in one.workers("serving"))


def both(clients: list[Client]) -> tuple[int, int]:
    """The two processes that have answered them."""
    first, second = sorted(by_pid(clients))
    return first, second


@pytest.mark.parametrize(
    ("flags", "command"),
    [(APP, SERVERS["uvicorn"]), (APP, SERVERS["gunicorn"]), (HTTP, HELLO)],
    ids=["app", "gthread", "http"],
)
def test_who_asks_is_answered_by_another(
    netns: int, tmp_path: Path, flags: tuple[str, ...], command: tuple[str, ...]
) -> None:
    """On the same connection, while its worker does nothing, with the request that it sent."""
    with Instance(tmp_path, *flags, command=command) as one:
        one.wait_serving(workers=2)
        with answered(20) as clients:
            victim, other = both(clients)
            mine = by_pid(clients)[victim]
            with stopped(victim):
                for client in mine:
                    client.ask()
                assert set(by_pid(mine)) == {other}, one.said()
                status = one.status()
            wait_until(lambda: awake(one), "it is awake again")
            for client in clients:
                client.ask()
            said = one.said()
            assert len(mine) <= status["carried"], said
            assert status["carried_unread"], said
            assert status["carried_stalled"] == status["carried"], said
            assert "a request waits unread" in said
            assert "stalls no more" in said
            stalls = [it for it in read(Paths(str(tmp_path / "run" / "t"))) if it.kind == "stall"]
            assert sum(it.counts.get("carried", 0) for it in stalls) >= len(mine)
            # New connections come to it as before.
            with answered(20) as more:
                assert set(by_pid(more)) == {victim, other}


def test_who_asks_for_nothing_goes_too(netns: int, tmp_path: Path) -> None:
    """Once the stall has lasted: the worker then holds nobody."""
    with Instance(tmp_path, *APP, command=SERVERS["uvicorn"]) as one:
        one.wait_serving(workers=2)
        with answered(40) as clients:
            victim, _ = both(clients)
            mine = by_pid(clients)[victim]
            with stopped(victim):
                mine[0].ask()
                wait_until(lambda: one.status()["carried"] == len(mine), "all are carried")
            assert one.status()["carried_unread"] == 1
            wait_until(lambda: awake(one), "it is awake again")
            for client in clients:
                client.ask()


def test_nobody_to_go_to(netns: int, tmp_path: Path) -> None:
    """All stall, or there is one only: clients wait as ever, and nothing is lost."""
    with Instance(tmp_path, *APP, command=SERVERS["uvicorn"]) as one:
        one.wait_serving(workers=2)
        with answered(10) as clients:
            pids = [worker["pid"] for worker in one.workers("serving")]
            with stopped(*pids):
                for client in clients:
                    client.send()
                looked = _looks(one)
                wait_until(lambda: _looks(one) > looked, "the supervisor looks around")
                assert one.status()["carried"] == 0
            for client in clients:
                client.receive()
        assert one.ask("scale", workers=1)["exit"] == 0
        wait_until(lambda: len(one.workers("serving", "draining")) == 1, "one is left")
        with answered(5) as clients, stopped(one.workers("serving")[0]["pid"]):
            before = one.status()["carried"]
            for client in clients:
                client.send()
            assert one.status()["carried"] == before


def test_the_other_has_little_room(netns: int, tmp_path: Path) -> None:
    """Three at a time: who finds no place waits, and goes when there is one."""
    command = (sys.executable, "-m", "tests.supervisor.slow_accepting_server", "{fd}")
    with Instance(tmp_path, *HTTP, command=command) as one:
        one.wait_serving(workers=2)
        with answered(60) as clients:
            victim, other = both(clients)
            mine = by_pid(clients)[victim]
            assert len(mine) > 9, "more than the queue holds"
            with stopped(victim):
                for client in mine:
                    client.send()
                for client in mine:
                    client.receive()
                assert set(by_pid(mine)) == {other}, one.said()
                status = one.status()
            wait_until(lambda: awake(one), "they are awake again")
            for client in clients:
                client.ask()
        assert status["carry_lost"] == 0, status
        assert status["carried_unread"] >= len(mine), status


def _looks(one: Instance) -> int:
    return int(one.status()["workers"][0]["age"])


def test_stalls_one_after_the_other(netns: int, tmp_path: Path) -> None:
    """Clients at work all the time, and each worker in turn stops and goes on."""
    with Instance(tmp_path, *APP, command=SERVERS["uvicorn"]) as one:
        one.wait_serving(workers=2)
        with kept(20) as clients:
            wait_until(lambda: all(client.answers for client in clients), "all are answered")
            for _ in range(3):
                for worker in one.workers("serving"):
                    before = one.status()["carried"]
                    with stopped(worker["pid"]):
                        wait_until(
                            lambda: one.status()["carried"] > before,  # noqa: B023
                            "some are carried",
                        )
                    wait_until(lambda: awake(one), "it is awake again")
        assert not [client.failed for client in clients if client.failed], one.said()
        assert one.status()["carry_lost"] == 0
        assert one.status()["cut"] == 0


def moved(one: Instance, clients: list[Client], old: set[int]) -> dict[str, Any]:
    """Every client is answered on its connection, and by nobody of these; the status."""
    for client in clients:
        client.ask()
    assert not set(by_pid(clients)) & old, one.said()
    return one.status()


@pytest.mark.parametrize("more", [{}, {"cut": True}, {"now": True}], ids=str)
def test_restarts_in_every_way(netns: int, tmp_path: Path, more: dict[str, bool]) -> None:
    """What is between two requests goes on; --cut is for the others."""
    with Instance(tmp_path, *APP, command=SERVERS["uvicorn"]) as one:
        one.wait_serving(workers=2)
        with answered(20) as clients:
            old = set(by_pid(clients))
            assert one.ask("restart", **more)["exit"] == 0, one.said()
            one.wait_serving(2, workers=2)
            assert moved(one, clients, old)["carried"] == 20


def test_scaling_down(netns: int, tmp_path: Path) -> None:
    """The connections of the worker that goes go to those that stay."""
    with Instance(tmp_path, *APP, command=SERVERS["uvicorn"]) as one:
        one.wait_serving(workers=2)
        with answered(20) as clients:
            before = by_pid(clients)
            assert one.ask("scale", workers=1)["exit"] == 0, one.said()
            one.wait_serving(workers=1)
            (left,) = (worker["pid"] for worker in one.workers("serving"))
            gone = set(before) - {left}
            status = moved(one, clients, gone)
            assert status["carried"] == sum(len(before[pid]) for pid in gone)


def test_recycling(netns: int, tmp_path: Path) -> None:
    """A worker that has had its connections is replaced by a successor, which gets what it has."""
    flags = ("--carry", "app", "--max-connections", "15")
    with Instance(tmp_path, *flags, command=SERVERS["uvicorn"]) as one:
        one.wait_serving()
        with answered(16) as clients:
            old = set(by_pid(clients))
            wait_until(lambda: {w["pid"] for w in one.workers("serving")} - old, "a successor")
            wait_until(lambda: len(one.status()["workers"]) == 1, "the old one is gone")
            moved(one, clients, old)


def test_a_worker_that_is_replaced(netns: int, tmp_path: Path) -> None:
    """One that stalls too often is told to stop; nobody was left there."""
    flags = (*APP, "--stall-kill", "0.3", "--stop-timeout", "0.5")
    with Instance(tmp_path, *flags, command=SERVERS["uvicorn"]) as one:
        one.wait_serving(workers=2)
        with answered(20) as clients:
            victim, _ = both(clients)
            with stopped(victim):
                by_pid(clients)[victim][0].ask()
                wait_until(
                    lambda: all(w["pid"] != victim for w in one.status()["workers"]),
                    "another in its place",
                )
            moved(one, clients, {victim})


def test_a_trace_shows_them(netns: int, tmp_path: Path) -> None:
    """And where they come from."""
    with Instance(tmp_path, *APP, command=SERVERS["uvicorn"]) as one:
        one.wait_serving(workers=2)
        with answered(6) as clients, tracing(one, "--json") as process:
            mine = {f"127.0.0.1:{client.connection.getsockname()[1]}" for client in clients}
            assert one.ask("restart")["exit"] == 0, one.said()
            carried: dict[str, dict[str, Any]] = {}
            while len(carried) < len(mine):
                (event,) = told(process, 1)
                if event["kind"] == "carried":
                    carried[event["client"]] = event
            assert carried.keys() == mine
            assert {event["from"] for event in carried.values()} <= {"worker 1.1", "worker 1.2"}
            assert {event["unread"] for event in carried.values()} == {0}
