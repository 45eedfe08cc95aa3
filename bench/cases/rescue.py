"""One worker of two or of four stalls in its own way, under Segue: is anybody late?"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench import proxies
from bench.attached import Attached
from bench.case import Case, Sample
from bench.harness import Load, Segue, Server, free_port, program, steady
from bench.rounds import seen, take_turns
from bench.systems import LOCAL, System, overlapping
from bench.table import LOAD, Column, Row
from segue.linux import proc

_OWN = re.compile(r"(\S+ )?segue: ")


@dataclass(frozen=True, slots=True)
class Way:
    """A server, how one of its workers is made to stall, and how many workers there are."""

    server: str
    # "sleep" and "spin": its loop's own thread; "stop": SIGSTOP; "": none, all are saturated
    stall: str
    workers: int
    rescue: str = "30ms"
    attached: bool = False  # its own way, ``segue attach --rescue`` beside it

    @property
    def name(self) -> str:
        """In the table."""
        if self.attached:
            return f"{self.server} of its own, attached, 1 of {self.workers} {self.stall}s"
        if not self.stall:
            return f"{self.server}, {self.workers} saturated, no stall"
        off = ", --rescue off" if self.rescue == "off" else ""
        return f"{self.server}, 1 of {self.workers} {self.stall}s{off}"

    def start(self, host: str, port: int) -> Segue | Beside:
        """Under ``segue run``, or beside ``segue attach``."""
        if self.attached:
            return self._beside(host, port)
        more: tuple[str, ...] = ("--rescue", self.rescue)
        if self.server in {"nginx", "HAProxy"}:
            where = proxies.directory()
            if self.server == "nginx":
                proxies.nginx(where, host, port, workers=1, listen="reuseport")
                argv, how = proxies.nginx_argv(where), ("--bind-by", "worker")
                more = (*more, *how, "--stop-signal", "QUIT")
            else:
                proxies.haproxy(where, "fd@3")
                argv, more = proxies.haproxy_argv(where), (*more, "--stop-signal", "USR1")
            return proxies.SegueOver(argv, port, where, host=host, more=more, workers=self.workers)
        quiet = ("--no-access-log", "--log-level", "warning", "--fd", "{fd}")
        app = "examples.stalling:app"
        argv = {
            "asyncio": [sys.executable, "-m", "examples.stalling"],
            "uvicorn": [program("uvicorn"), app, *quiet, "--loop", "asyncio"],
            "uvicorn, uvloop": [program("uvicorn"), app, *quiet, "--loop", "uvloop"],
            "node": [program("node"), "examples/stalling.js"],
            "gunicorn sync": [
                *(program("gunicorn"), "--no-control-socket", "-b", "fd://{fd}"),
                "examples.stalling:wsgi",
            ],
        }[self.server]
        more = (*more, "--env", f"STALL={self.stall}:1")
        return Segue(argv, port, engine="migrate", workers=self.workers, more=more, host=host)

    def _beside(self, host: str, port: int) -> Beside:
        servers: list[Callable[[], Server]]
        where = proxies.directory()
        if self.server == "nginx":
            proxies.nginx(where, host, port, workers=self.workers, listen="reuseport")
            servers = [lambda: Server(proxies.nginx_argv(where), port, host=host)]
        else:
            argv = [sys.executable, "-m", "examples.stalling", f"{host}:{port}"]
            env = {"STALL": f"{self.stall}:1"}
            servers = [lambda: Server(argv, port, host=host, env=env)] * self.workers
        return Beside(servers, port, self.workers, self.rescue, where)


class Beside:
    """Servers without a supervisor, each with a listener of its own, and ``segue attach``."""

    def __init__(
        self,
        servers: Sequence[Callable[[], Server]],
        port: int,
        listeners: int,
        rescue: str,
        directory: Path,
    ) -> None:
        self.port, self.listeners = port, listeners
        self._start, self._directory = servers, directory
        self._stack = contextlib.ExitStack()
        self._servers: list[Server] = []
        self._attached = Attached(port, "--rescue", rescue)

    def accepting(self) -> list[int]:
        """The processes that serve."""
        return [pid for one in self._servers for pid in one.accepting()]

    def log(self) -> str:
        """What the servers have printed."""
        return "".join(one.log() for one in self._servers)

    def status(self) -> dict[str, Any]:
        """As ``segue status`` shows it."""
        found: dict[str, Any] = self._attached.ask("status")["status"]
        return found

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.callback(shutil.rmtree, self._directory)
            self._servers = [self._stack.enter_context(start()) for start in self._start]
            self._stack.enter_context(self._attached)
            self._attached.wait_ready(self.listeners)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


WAYS = [
    Way("asyncio", "sleep", 2, "off"),
    *(
        Way(server, stall, workers)
        for server in ("asyncio", "uvicorn", "uvicorn, uvloop", "gunicorn sync", "node")
        for stall in ("sleep", "spin")
        for workers in (2, 4)
    ),
    *(Way("asyncio", "", workers) for workers in (2, 4)),
    *(Way(server, "stop", workers) for server in ("nginx", "HAProxy") for workers in (2, 4)),
    Way("asyncio", "sleep", 2, attached=True),
    Way("asyncio", "spin", 2, attached=True),
    Way("nginx", "stop", 4, attached=True),
]


def measure(
    *,
    repetitions: int = 2,
    stalls: int = 3,
    rate: int = 400,
    closed: int = 0,
    saturated: int = 60,
    only: str = "",
) -> list[Row]:
    """The same victim each time, so that it must have gone on well after each stall; ``closed``
    clients, each with one request after the other, instead of the rate; ``only`` rows whose name
    has this in it.
    """
    ways = {way.name: way for way in WAYS}

    def once(system: System, _: object) -> Sample:
        way = ways[system.name]
        stop = way.stall == "stop"
        server = way.start(LOCAL, free_port())
        with server:
            victim = min(server.accepting())
            before = len(server.log().splitlines())
            clients = closed if way.stall else 64
            pace = ("--concurrency", str(clients)) if clients else ("--rate", str(rate))
            load = Load(server.port, *pace)
            try:
                if not way.stall:
                    with steady(saturated):
                        pass
                for _ in range(stalls if way.stall else 0):
                    with steady(1.0):
                        pass
                    with steady(1.0):
                        os.kill(victim, signal.SIGSTOP if stop else signal.SIGUSR2)
                    if stop:
                        os.kill(victim, signal.SIGCONT)
                    with steady(1.0):
                        pass
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGCONT)
                result = load.stop()
            said = server.log().splitlines()[before:]
            status = server.status()
            return seen(
                result,
                stalls=stalls if way.stall else 0,
                found=sum(one["stalls"] for one in status["workers"]),
                rescued=status["rescued"],
                harmed=_harmed(victim, said),
            )

    idle = overlapping([])  # never started: ``once`` starts its way itself
    systems = [System(way.name, idle, claims_none=True) for way in WAYS if only in way.name]
    return take_turns(systems, repetitions, once)


def _harmed(victim: int, said: Sequence[str]) -> int:
    """1 for a victim that is gone, and what the workers, who keep no access log, have printed."""
    gone = proc.start_time(victim) is None
    return gone + len(printed(said))


def printed(said: Sequence[str]) -> list[str]:
    """The lines that are not the supervisor's own, which has the time before its name."""
    return [line for line in said if not _OWN.match(line)]


def notes(rows: Sequence[Row]) -> list[str]:
    """How to read it."""
    del rows
    return [
        (
            "`found` is what the supervisor took for stalls: more than there were are false alarms."
            " `harmed` counts lines that the servers printed, and victims that are gone."
        ),
        "A maximum of up to a second is a request that the victim had accepted when it stalled.",
    ]


CASE = Case(
    "rescue",
    "Workers that stall 1 s of every 3, under segue run or attached to",
    "400 new connections a second, an open loop; the loop of one worker sleeps or computes for 1 s"
    " of every 3, or its process is stopped (SIGSTOP), three times a repetition.",
    measure,
    (
        Column("stalls", "stalls", "sum", 0),
        Column("found", "found", "sum", 0),
        Column("rescued", "rescued", "sum", 0),
        *LOAD,
        Column("harmed", "harmed", "sum", 0),
    ),
    notes,
    quick={"stalls": 1, "saturated": 4},
)
