"""One worker of four takes four times as long as its siblings: who gets how much, who waits?"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from bench import proxies
from bench.case import Case, Sample
from bench.harness import Load, Segue, Server, free_port, program, steady, wait_until
from bench.rounds import seen, take_turns
from bench.systems import LOCAL
from bench.table import LOAD, Column, Row
from bench.ways import BACKLOG, inheriting
from segue.address import Address
from segue.linux.sockopt import open_listener

WORKERS = 4
SLOWER = 4
COMMANDS = {
    "gunicorn": [program("gunicorn"), "--no-control-socket", "examples.uneven:wsgi"],
    "asyncio": [sys.executable, "-m", "examples.uneven"],
}
_START_S = 30.0


class Running(Protocol):
    """What is measured."""

    port: int

    def accepting(self) -> list[int]:
        """The processes that serve."""

    def __enter__(self) -> Self:
        """It answers."""

    def __exit__(self, *_: object) -> None:
        """Nothing of it is left."""


class Alone:
    """Workers without a supervisor, on one listener that they share."""

    def __init__(self, command: list[str], workers: int) -> None:
        self.port = free_port()
        self._command, self._workers = command, workers
        self._stack = contextlib.ExitStack()
        self._running: list[Server] = []

    def accepting(self) -> list[int]:
        """As in Running."""
        return [pid for one in self._running for pid in one.accepting()]

    def __enter__(self) -> Self:
        try:
            where = Address(LOCAL, self.port)
            with open_listener(where, backlog=BACKLOG, reuseport=False) as listener:
                for _ in range(self._workers):
                    one = inheriting(listener, self._command, LOCAL, self.port)
                    self._stack.callback(one.stop)
                    self._running.append(one)
            for one in self._running:
                one.wait_serving()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Behind:
    """A worker at each of several ports, and HAProxy in front of them."""

    def __init__(self, command: list[str], how: str) -> None:
        self.port = free_port()
        self._workers = [Alone(command, 1) for _ in range(WORKERS)]
        self._how = how
        self._stack = contextlib.ExitStack()

    def accepting(self) -> list[int]:
        """As in Running."""
        return [pid for one in self._workers for pid in one.accepting()]

    def __enter__(self) -> Self:
        try:
            where = proxies.directory()
            self._stack.callback(shutil.rmtree, where, ignore_errors=True)
            for one in self._workers:
                self._stack.enter_context(one)
            ports = [one.port for one in self._workers]
            proxies.haproxy_before(where, f"{LOCAL}:{self.port}", ports, self._how)
            self._stack.enter_context(Server(proxies.haproxy_argv(where), self.port))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@dataclass(frozen=True, slots=True)
class Way:
    """How connections are shared among the workers of this command."""

    name: str
    start: Callable[[list[str]], Running]
    claims_none: bool = False


def _segue(name: str, *more: str) -> Way:
    def start(command: list[str]) -> Running:
        return Segue(command, free_port(), engine="migrate", workers=WORKERS, more=more)

    return Way(name, start)


WAYS = [
    _segue("plain hash (--rescue off)", "--rescue", "off"),
    _segue("--balance queue --rescue off", "--rescue", "off", "--balance", "queue"),
    _segue("rescue, as it is by default"),
    _segue("rescue, --balance queue", "--balance", "queue"),
    Way("one listener that all share", lambda command: Alone(command, WORKERS)),
    Way("HAProxy in front, roundrobin", lambda command: Behind(command, "roundrobin")),
    Way("HAProxy in front, leastconn", lambda command: Behind(command, "leastconn")),
]


def measure(
    *,
    repetitions: int = 3,
    server: str = "gunicorn",
    work_ms: float = 5.0,
    rate: int = 360,
    settle: float = 12.0,
    seconds: float = 12.0,
    equal: int = 0,
    only: str = "",
) -> list[Row]:
    """``server`` is gunicorn (sync) or asyncio; with ``equal`` none of the workers is slow;
    ``only`` rows whose name has this in it.
    """
    os.environ |= {"WORK": str(work_ms / 1000), "SLOW": str(SLOWER)}  # whoever starts the workers

    def once(way: Way, _: object) -> Sample:
        with way.start(COMMANDS[server]) as running:
            wait_until(lambda: len(running.accepting()) == WORKERS, _START_S, "every worker")
            if not equal:
                os.kill(min(running.accepting()), signal.SIGUSR2)
            first = Load(running.port, "--rate", str(rate), seconds=settle)
            try:
                with steady(settle):
                    pass
                load = Load(running.port, "--rate", str(rate))
                try:
                    with steady(seconds):
                        pass
                    more = _weight(running)
                finally:
                    result = load.stop()
            finally:
                before = first.stop()
            more |= {"max_before": before.max_ms or 0.0, "lost_before": float(before.lost)}
            return seen(result, **more)

    return take_turns([way for way in WAYS if only in way.name], repetitions, once)


def _weight(running: Running) -> dict[str, float]:
    if not isinstance(running, Segue):
        return {}
    return {"weight": min(one["weight"] for one in running.status()["workers"])}


def notes(rows: Sequence[Row]) -> list[str]:
    """How to read it."""
    del rows
    return [
        "`lost` are requests that were not answered within the probe's limit.",
        (
            "A policy cannot count connections: it is asked when one begins, and nobody tells it"
            " when one ends. For least connections stand HAProxy, and a listener that all workers"
            " share, from which whoever has time takes the next."
        ),
    ]


CASE = Case(
    "balance",
    "One worker of four takes four times as long",
    "360 new connections a second, an open loop, at four gunicorn sync whose requests take 5 ms,"
    " and 20 in one of them, too long for a quarter of them all. Measured for 12 s, from 12 s after"
    " it became slow; of the time before, the longest and the lost.",
    measure,
    (
        Column("lost_before", "lost before", "sum", 0),
        Column("max_before", "max ms before", digits=0),
        *LOAD,
        Column("weight", "weight of the slow one", digits=2),
    ),
    notes,
    quick={"settle": 4.0, "seconds": 4.0},
)
