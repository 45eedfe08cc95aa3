"""The model beside PyTCP, another TCP in Python: connections a second, the same client in turns."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence

from bench.case import FAULTS, Case, Sample, Tally
from bench.cases.model_clients import wrk
from bench.harness import program
from bench.rounds import told
from bench.serving import SERVER, Behind, Model, PyTcp
from bench.table import Column, Row

OURS, THEIRS = "segue lab serve", "PyTCP"
_SYSTEMS: dict[str, type[Behind]] = {OURS: Model, THEIRS: PyTcp}
_GOAL = 10


def measure(*, repetitions: int = 5, seconds: float = 5.0, clients: int = 16) -> list[Row]:
    """Each server alone on the last core, wrk on the first."""
    first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
    tally = Tally()
    load = [
        *("taskset", "-c", str(first), program("wrk"), "-t1", f"-c{clients}"),
        *(f"-d{max(1, round(seconds))}s", "--latency", "-H", "Connection: close"),
        f"http://{SERVER}/10",
    ]
    for name in _SYSTEMS:
        tally.expect(name)
    for number in range(repetitions):
        for name in list(_SYSTEMS) if number % 2 else list(reversed(_SYSTEMS)):
            try:
                with _SYSTEMS[name](core=last) as server:
                    tally.expect(name, command=server.shown)
                    before = server.cpu_s()
                    found = wrk(load, seconds)
                    found["cpu_us"] = (server.cpu_s() - before) / found["requests"] * 1e6
            except FAULTS as error:
                tally.failed(name, error)
                continue
            sample = Sample(found, {})
            told(name, sample)
            tally.add(name, sample)
    return tally.rows()


def _notes(rows: Sequence[Row]) -> list[str]:
    found = {row.system: row.measures for row in rows}
    if any(not found.get(name) for name in _SYSTEMS):
        return []
    rate, cpu = (
        statistics.median(found[OURS][one]) / statistics.median(found[THEIRS][one])
        for one in ("rate", "cpu_us")
    )
    reached = "reached" if rate >= _GOAL else "not reached here"
    return [
        (
            f"The model serves {rate:.1f} times as many connections a second, each for"
            f" 1/{1 / cpu:.1f} of the CPU time; {_GOAL} times is the goal, {reached}."
        )
    ]


CASE = Case(
    "pytcp",
    "The model beside PyTCP",
    "Both serve wrk behind a TUN interface, one connection for each request, each server alone on"
    " one core and wrk on the other, in turns. *CPU us* is the server's, the kernel's part and the"
    " client's half of a TUN interface's work included.",
    measure,
    (
        Column("requests", "connections", "sum", 0),
        Column("rate", "connections/s", digits=0),
        Column("p99_ms", "p99 ms"),
        Column("lost", "lost", digits=0),
        Column("cpu_us", "CPU us each", digits=0),
    ),
    _notes,
)
