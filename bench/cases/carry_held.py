"""Connections of which Segue has duplicates: crashes, time-outs of idle ones, the cost."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.case import Case, Sample, Tally
from bench.harness import Segue, Server, free_port, program, steady, wait_until
from bench.rounds import alternate, take_turns
from bench.systems import LOCAL, Start, System
from bench.table import Column, Row
from bench.thinking import Thinking
from bench.usage import cpu_seconds
from bench.ways import Restartable
from segue.address import Address
from segue.linux import proc
from segue.observe.snapshot import Observer, Part
from segue.probe.session import allow_descriptors

_QUIET = ("--no-access-log", "--log-level", "warning", "--fd", "{fd}")
_STOPS_S, _SOON_S = 5.0, 60.0
_REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
_SPARE = 1000  # descriptors
_AT_ONCE = 200  # requests


def _uvicorn(app: str, *more: str, keep: int = 60, workers: int = 4) -> Start:
    def start(host: str, port: int) -> Restartable:
        command = [program("uvicorn"), *_QUIET, "--timeout-keep-alive", str(keep), app]
        return Segue(command, port, engine="migrate", workers=workers, more=more, host=host)

    return start


def crashes(
    *,
    repetitions: int = 3,
    kills: int = 5,
    clients: int = 40,
    think: float = 0.4,
    apart: float = 1.0,
) -> list[Row]:
    """The oldest worker is killed, again and again, so many seconds apart."""
    marks, looks = "bench.answering:draining", "bench.answering:plain"
    app, http = ("--carry", "app"), ("--carry", "http", "--idle-grace", "0.1")
    return alternate(
        [
            System("segue run --carry app, Draining", _uvicorn(marks, *app)),
            System(
                "segue run --carry app --carry-crash, Draining",
                _uvicorn(marks, *app, "--carry-crash"),
            ),
            System("segue run --carry http", _uvicorn(looks, *http)),
            System("segue run --carry http --carry-crash", _uvicorn(looks, *http, "--carry-crash")),
        ],
        repetitions,
        lambda server: _crashed(server, kills, clients, think, apart),
    )


def _crashed(server: Restartable, kills: int, clients: int, think: float, apart: float) -> Sample:
    served = killed = 0
    with Thinking(server.host, server.port, clients, think) as thinking, Observer() as observer:
        for _ in range(kills):
            with steady(apart):
                pass
            where = Address(server.host, server.port)
            served += _kill(min(server.accepting(), key=_age), where, observer)
            killed += 1
        with steady(2.0):
            pass
        found = thinking.stop()
    measures = {
        "attempts": float(found.asked),
        "kills": float(killed),
        "served": float(served),
        "lost": float(found.lost.total()),
        "reconnected": float(found.reconnected),
        "max_ms": found.at(1.0),
    }
    return Sample(measures, dict(found.lost))


def _age(pid: int) -> int:
    return proc.start_time(pid) or 0


def _kill(pid: int, where: Address, observer: Observer) -> int:
    """SIGKILL; of how many requests it had begun to read, and not answered whole to the kernel.

    It is stopped for the count, so that what is counted is what dies with it.
    """
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: proc.threads_stopped(pid), _STOPS_S, "a stopped worker")
        own = proc.sockets(pid)
        there = observer.snapshot(where, Part.CONNECTIONS).connections
        mine = [one for one in there if one.inode in own]
        return sum(
            one.unread < one.bytes_received and not one.unread and one.idle_ms is None
            for one in mine
        )
    finally:
        os.kill(pid, signal.SIGKILL)


def idle(*, repetitions: int = 3, seconds: int = 60, clients: int = 40) -> list[Row]:
    """A time-out of 2 s, and clients that think 1.9 to 2.1 s."""
    marks, looks = "examples.draining:app", "examples.hello:app"
    keep = ("--keep-idle", "60")
    return alternate(
        [
            System("segue run", _uvicorn(looks, keep=2, workers=2)),
            System(
                "segue run --carry app --keep-idle 60, Draining",
                _uvicorn(marks, "--carry", "app", *keep, keep=2, workers=2),
                claims_none=True,
            ),
            System(
                "segue run --carry http --keep-idle 60",
                _uvicorn(looks, "--carry", "http", *keep, keep=2, workers=2),
                claims_none=True,
            ),
        ],
        repetitions,
        lambda server: _idled(server, seconds, clients),
    )


def _idled(server: Restartable, seconds: int, clients: int) -> Sample:
    _prepared(server)
    with Thinking(server.host, server.port, clients, 2.1, least=1.9) as thinking:
        with steady(float(seconds)):
            pass
        went = float(server.status()["went_on"]) if isinstance(server, Segue) else 0.0
        found = thinking.stop()
    measures = {
        "attempts": float(found.asked),
        "lost": float(found.lost.total()),
        "reconnected": float(found.reconnected),
        "went_on": went,
        "p99_ms": found.at(0.99),
        "max_ms": found.at(1.0),
    }
    return Sample(measures, dict(found.lost))


@dataclass(frozen=True, slots=True)
class Many:
    """So many connections, and the options that hold them."""

    name: str
    options: tuple[str, ...]
    keep: int  # the server's time-out
    claims_none = True

    @property
    def waits(self) -> bool:
        """Their workers close them, and they wait with Segue."""
        return self.keep < _SOON_S


def costs(*, repetitions: int = 1, connections: int = 10_000, seconds: int = 10) -> list[Row]:
    """At rest: descriptors and processor time of the supervisor; then each asks once more."""
    allow_descriptors(connections + _SPARE)
    app, long = ("--carry", "app"), 3600
    kinds = [
        Many("--carry app", app, long),
        Many("--carry app --carry-crash", (*app, "--carry-crash"), long),
        Many("the same, after kill -9 of one of four workers", (*app, "--carry-crash"), long),
        Many(
            "--carry app --keep-idle 600, closed by their workers", (*app, "--keep-idle", "600"), 20
        ),
    ]
    return take_turns(
        kinds, repetitions, lambda one, tally: _rest(one, tally, connections, seconds)
    )


def _rest(many: Many, tally: Tally, number: int, seconds: int) -> Sample:
    server = _uvicorn("examples.draining:app", *many.options, keep=many.keep)(LOCAL, free_port())
    assert isinstance(server, Segue)
    tally.expect(many.name, command=server.shown, claims_none=True)
    with server, ExitStack() as stack:
        _prepared(server)
        kept = [stack.enter_context(_connected(server)) for _ in range(number)]
        lost = _asked(kept)
        if many.waits:
            _until(server, "waiting_idle", number)
        elif "--carry-crash" in many.options:
            _until(server, "held", number)
        pid = server.process.pid
        used, begun = cpu_seconds(pid), time.monotonic()
        with steady(float(seconds)):
            pass
        share = 100 * (cpu_seconds(pid) - used) / (time.monotonic() - begun)
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        if "kill" in many.name:
            os.kill(min(server.accepting(), key=_age), signal.SIGKILL)
        begun = time.monotonic()
        lost += _asked(kept)
        return Sample(
            {
                "attempts": 2.0 * number,
                "lost": float(lost),
                "descriptors": float(descriptors),
                "cpu": share,
                "again_s": time.monotonic() - begun,
            },
            {},
        )


def _until(server: Segue, name: str, number: int) -> None:
    """Until the status has so many.  Each look at ten thousand connections takes long: not often.

    Raises TimeoutError.
    """
    end = time.monotonic() + _SOON_S
    while server.status()[name] < number:
        if time.monotonic() > end:
            raise TimeoutError(f"not within {_SOON_S:g} s: {name} {number:,}")
        with steady(1.0):
            pass


def _prepared(server: Restartable) -> None:
    """A middleware says with its first request that it is there; then there is what carries."""
    if isinstance(server, Segue) and server.status()["held_wanted"]:
        with _connected(server) as first:
            _asked([first])
        wait_until(lambda: server.status()["carry"] != "off", _SOON_S, "what carries")


def _connected(server: Server) -> socket.socket:
    made = socket.create_connection((server.host, server.port), timeout=_SOON_S)
    made.setblocking(False)
    return made


def _asked(connections: Sequence[socket.socket]) -> int:
    """Each asks once, some at a time; how many were ended instead of answered.

    An answer of the hello application comes in one piece, or its pieces come at once.
    """
    waiting: dict[int, socket.socket] = {}
    left, lost = list(connections), 0
    end = time.monotonic() + _SOON_S
    with select.epoll() as heard:
        while left or waiting:
            while left and len(waiting) < _AT_ONCE:
                one = left.pop()
                one.send(_REQUEST)
                waiting[one.fileno()] = one
                heard.register(one, select.EPOLLIN)
            for number, _ in heard.poll(1.0):
                try:
                    lost += not waiting[number].recv(4096)
                except OSError:
                    lost += 1
                heard.unregister(number)
                del waiting[number]
            if time.monotonic() > end:
                return lost + len(waiting) + len(left)
    return lost


CRASHES = Case(
    "carry-crash",
    "A worker killed every second, kept connections",
    "40 clients of Python's http.client that keep their connection and think up to 0.4 s; SIGKILL"
    " to the oldest of four workers, whose answers take up to 0.1 s. Served: requests that the"
    " killed workers had read and not answered.",
    crashes,
    (
        Column("attempts", "requests", "sum", 0),
        Column("kills", "kills", "sum", 0),
        Column("served", "served", "sum", 0),
        Column("lost", "lost", "sum", 0),
        Column("reconnected", "reconnected", "sum", 0),
        Column("max_ms", "max ms", digits=0),
    ),
    quick={"kills": 2},
)
IDLE = Case(
    "keep-idle",
    "A server's time-out for idle connections, and clients that ask just then",
    "40 clients of Python's http.client that think 1.9 to 2.1 s; uvicorn closes what was idle for"
    " 2 s. Went on: connections that waited with Segue and went to a worker with a request.",
    idle,
    (
        Column("attempts", "requests", "sum", 0),
        Column("lost", "lost", "sum", 0),
        Column("reconnected", "reconnected", "sum", 0),
        Column("went_on", "went on", "sum", 0),
        Column("p99_ms", "p99 ms"),
        Column("max_ms", "max ms", digits=0),
    ),
    quick={"seconds": 10},
)
COSTS = Case(
    "carry-held",
    "What it costs to hold ten thousand connections",
    "10,000 kept connections of four uvicorn; the supervisor at rest, then one request of each.",
    costs,
    (
        Column("attempts", "requests", "sum", 0),
        Column("lost", "lost", "sum", 0),
        Column("descriptors", "descriptors of the supervisor", digits=0),
        Column("cpu", "of a core, %", digits=2),
        Column("again_s", "s for a request of each", digits=2),
    ),
    quick={"connections": 1000, "seconds": 5},
)
