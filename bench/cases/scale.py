"""What a restart costs by the number of connections that idle clients keep."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from bench.case import FAULTS, Case, Sample, Tally
from bench.harness import ROOT, Segue, free_port
from bench.rounds import told
from bench.table import Column, Row
from bench.usage import cpu_seconds

_SERVER = (sys.executable, "-S", "-E", str(ROOT / "bench" / "keeping_server.py"))
_EACH = 9000  # connections of one client process
_FIRST_SOURCE = 10  # 127.0.10.x: nobody else's address
_EVERY_S = 0.02
_MADE_S = 120.0
_ENDS_S = 30.0
_DRAIN_S = 30.0
_IDLE_S = 1.5  # longer than the idle grace


class Clients:
    """The connections, in as few processes as may be."""

    def __init__(self, port: int, count: int) -> None:
        parts = [min(_EACH, count - begun) for begun in range(0, count, _EACH)]
        self._processes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "bench.keeping"),
                    *("127.0.0.1", str(port), str(_FIRST_SOURCE + number), str(part)),
                ],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for number, part in enumerate(parts)
        ]  # fmt: skip
        self._timer = threading.Timer(_MADE_S, self.kill)
        self._timer.start()
        for one in self._processes:
            self._line(one)
        self._timer.cancel()

    def owed(self, seconds: float) -> int:
        """Ask every server process for an answer after so many seconds; how many are owed."""
        asked = 0
        for one in self._processes:
            assert one.stdin
            one.stdin.write(f"{seconds:g}\n")
            one.stdin.flush()
            asked += int(self._line(one))
        return asked

    def _line(self, one: subprocess.Popen[str]) -> str:
        assert one.stdout
        line = one.stdout.readline()
        if not line:
            raise RuntimeError("the clients could not make their connections")
        return line

    def end(self) -> dict[str, int]:
        """What became of the connections, by kind."""
        found: dict[str, int] = {}
        for one in self._processes:
            said, _ = one.communicate(timeout=_ENDS_S)
            for kind, count in json.loads(said).items():
                found[kind] = found.get(kind, 0) + count
        return found

    def kill(self) -> None:
        """End the processes, whatever they do."""
        self._timer.cancel()
        for one in self._processes:
            if one.poll() is None:
                one.kill()
            one.wait()


class Usage:
    """The processor time of a process, read again and again in a thread of its own."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._seen: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        while not self._over.wait(_EVERY_S):
            self._seen.append((time.monotonic(), cpu_seconds(self._pid)))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def share(self, begin: float, end: float) -> float:
        """Its percentage of a core between two moments of time.monotonic()."""
        within = [one for one in self._seen if begin <= one[0] <= end]
        if len(within) < 2:
            return 0.0
        (first, before), (last, after) = within[0], within[-1]
        return 100 * (after - before) / (last - first)


def measure(
    *,
    counts: str = "100,2000,8000,18000",
    workers: str = "2,64",
    engine: str = "migrate",
    repetitions: int = 3,
    owed: float = 10.0,
) -> list[Row]:
    """Restarts with so many kept connections: all idle, and one a worker owed an answer."""
    tally = Tally()
    with _files():
        for number in map(int, workers.split(",")):
            for count in map(int, counts.split(",")):
                name = f"{count:,} kept, {number} workers"
                tally.expect(name)
                for _ in range(repetitions):
                    try:
                        sample = _one(count, number, engine, owed)
                    except (*FAULTS, subprocess.TimeoutExpired) as error:
                        tally.failed(name, error)
                        print(f"{name}: {error}", flush=True)
                        continue
                    told(name, sample)
                    tally.add(name, sample)
    return tally.rows()


def _one(count: int, workers: int, engine: str, owed: float) -> Sample:
    more = ("--drain-timeout", f"{_DRAIN_S:g}")
    with Segue(list(_SERVER), free_port(), engine=engine, workers=workers, more=more) as server:
        idle = _restart(server, count, 0.0)
        # So that the old workers stay for a time that is known, and are looked at all along.
        busy = _restart(server, count, owed + idle.seconds)
        measures = {
            "restart_s": idle.seconds,
            "drain_percent": busy.share,
            "after_s": busy.after_s,
            "cut": float(server.status()["cut"]),
        }
        both = {kind: float(idle.found[kind] + busy.found[kind]) for kind in idle.found}
        return Sample(measures | both, {})


@dataclass(frozen=True, slots=True)
class Restarted:
    """One restart: its time, the supervisor's share of a core from the flip to the owed answers,
    and from these to the end of the old workers; what became of connections, by kind.
    """

    seconds: float
    share: float
    after_s: float
    found: dict[str, int]


def _restart(server: Segue, count: int, owed: float) -> Restarted:
    clients = Clients(server.port, count)
    try:
        time.sleep(_IDLE_S)
        if owed:
            clients.owed(owed)
        answered = time.monotonic() + owed
        with Usage(server.process.pid) as usage:
            seconds = server.restart()
            ended = time.monotonic()
        flipped = time.monotonic() - server.status()["flip_age"]
        share = usage.share(flipped, min(answered, ended))
        return Restarted(seconds, share, ended - answered, clients.end())
    finally:
        clients.kill()


@contextlib.contextmanager
def _files() -> Iterator[None]:
    """As many open files as may be, which clients and workers inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def notes(_: Sequence[Row]) -> list[str]:
    """What the columns are."""
    return [
        (
            "restart: every connection is idle for longer than the idle grace. % of a core: the"
            " supervisor, from the flip on, while each of the old workers owes one answer. after:"
            " from these answers to the end of the old workers, of which the idle grace is 1 s."
            " Workers and clients need time to close so many connections, which is part of both"
            " times."
        )
    ]


CASE = Case(
    "scale",
    "Kept connections",
    "A restart under connections that clients keep; a small server with epoll, every connection"
    " has had one answer. The curve should be flat.",
    measure,
    (
        Column("restart_s", "restart s", digits=2),
        Column("drain_percent", "% of a core"),
        Column("after_s", "after s", digits=2),
        Column("cut", "cut", "sum", 0),
        Column("reset", "resets", "sum", 0),
        Column("unanswered", "unanswered", "sum", 0),
    ),
    notes,
    quick={"counts": "100,2000", "workers": "2", "owed": 3.0},
)
