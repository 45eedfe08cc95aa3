"""The model beside PyTCP, another TCP in Python: the same clients, in turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence

from bench.case import FAULTS, Case, Sample, Tally
from bench.cases.model_clients import wrk
from bench.harness import ROOT, program
from bench.rounds import told
from bench.serving import SERVER, Behind, Model, PyTcp
from bench.table import Column, Row

_SYSTEMS: dict[str, type[Behind]] = {"segue lab serve": Model, "PyTCP": PyTcp}
_HANDSHAKES, _REQUESTS = "handshakes", "a connection for each request"
_GOALS = {_HANDSHAKES: 12, _REQUESTS: 10}


def measure(*, repetitions: int = 5, seconds: float = 5.0, clients: int = 16) -> list[Row]:
    """Each server alone on the last core, the client on the first."""
    first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
    pinned = ("taskset", "-c", str(first))
    connecting = [
        *(*pinned, sys.executable, "-m", "bench.connecting", SERVER, "80"),
        *(str(seconds), str(clients)),
    ]
    load = [
        *(*pinned, program("wrk"), "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s"),
        *("--latency", "-H", "Connection: close", f"http://{SERVER}/10"),
    ]
    loads: dict[str, Callable[[], dict[str, float]]] = {
        _HANDSHAKES: lambda: _connect(connecting, seconds),
        _REQUESTS: lambda: wrk(load, seconds),
    }
    tally = Tally()
    for what in loads:
        for name in _SYSTEMS:
            tally.expect(_row(name, what))
    for number in range(repetitions):
        for what, run in loads.items():
            for name in list(_SYSTEMS) if number % 2 else list(reversed(_SYSTEMS)):
                _one(tally, name, what, run, last)
    return tally.rows()


def _row(name: str, what: str) -> str:
    return f"{name}: {what}"


def _one(
    tally: Tally, name: str, what: str, run: Callable[[], dict[str, float]], core: int
) -> None:
    row = _row(name, what)
    try:
        with _SYSTEMS[name](core=core) as server:
            tally.expect(row, command=server.shown)
            before = server.cpu_s()
            found = run()
            found["cpu_us"] = (server.cpu_s() - before) / max(1.0, found["attempts"]) * 1e6
    except FAULTS as error:
        tally.failed(row, error)
        return
    sample = Sample(found, {})
    told(row, sample)
    tally.add(row, sample)


def _connect(argv: list[str], seconds: float) -> dict[str, float]:
    done = subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 60, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _notes(rows: Sequence[Row]) -> list[str]:
    found = {row.system: row.measures for row in rows}
    compared = [
        _compared(what, *(found[_row(name, what)] for name in _SYSTEMS))
        for what in _GOALS
        if all(found.get(_row(name, what)) for name in _SYSTEMS)
    ]
    packets = (
        "A request takes seven packets with segue lab serve, whose answer acknowledges the request"
        " and ends the connection, and nine with PyTCP."
    )
    return [*compared, packets]


def _compared(what: str, ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> str:
    rate, cpu = (
        statistics.median(ours[one]) / statistics.median(theirs[one]) for one in ("rate", "cpu_us")
    )
    goal = _GOALS[what]
    reached = "reached" if rate >= goal else "not reached here"
    return (
        f"{what}: the model does {rate:.1f} times as many a second, each for 1/{1 / cpu:.1f} of the"
        f" CPU time; {goal} times is the goal, {reached}."
    )


CASE = Case(
    "pytcp",
    "The model beside PyTCP",
    "Both serve behind a TUN interface, each server alone on one core and the client on the other,"
    " in turns. *Handshakes*: each connection is reset by the client as soon as it is there. *CPU"
    " us* is the server's, with the kernel's part, which is the client's half of the work too.",
    measure,
    (
        Column("attempts", "connections", "sum", 0),
        Column("rate", "a second", digits=0),
        Column("p99_ms", "p99 ms"),
        Column("lost", "lost", digits=0),
        Column("cpu_us", "CPU us each", digits=0),
    ),
    _notes,
    quick={"seconds": 1.0},
)
