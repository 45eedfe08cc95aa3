"""Latency while one restart follows the other, against none: alternating, in one run.

The same instance serves an open-loop load all the time; slices take turns, and each attempt is
counted to the slice in which it was due.  "Starting" is what the machine itself makes of programs
that start beside a server.  Where these give way as far as the kernel has means for it, that is
the part of "restarts" that no way of restarting can avoid.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from bench.case import FAULTS, Case, Sample, Tally
from bench.giving_way import Giving, Way
from bench.harness import ROOT, Load, free_port, steady
from bench.rounds import chosen, told
from bench.systems import LOCAL, System
from bench.table import LOAD, Column, Row
from bench.ways import Restartable
from segue.probe.fates import Fate
from segue.probe.result import Result, percentile

NONE, RESTARTS = "nothing else", "restarts"
# The one whose restarts are compared with programs that only start.
QUICK = "segue run, asyncio example"
ALONE = [sys.executable, "-m", "examples.asyncio_server"]

_BESIDE = {NONE: "nothing else happens"} | {
    Giving.NOT.value: "programs start",
    Giving.NICE.value: "they do at nice 19",
    Giving.IDLE.value: "they do in a group with cpu.idle",
}
Span = tuple[str, float, float, int]  # what happened, from, until, restarts


def measure(
    *,
    seconds: float = 60.0,
    slices: int = 6,
    quiet: float = 2.0,
    rate: int = 300,
    systems: str = "segue-asyncio,uvicorn",
) -> list[Row]:
    """``seconds`` of restarts for each system, and ``quiet`` seconds without after each slice."""
    tally = Tally()
    for system in chosen(systems):
        try:
            _one(system, tally, seconds / slices, slices, quiet, rate)
        except FAULTS as error:
            tally.failed(f"{system.name}: {RESTARTS}", error)
            print(f"{system.name}: {error}", flush=True)
    return tally.rows()


def _one(system: System, tally: Tally, length: float, slices: int, quiet: float, rate: int) -> None:
    server = system.start(LOCAL, free_port())
    ways = _ways() if system.name == QUICK else {}
    for kind in (NONE, *ways, RESTARTS):
        claims_none = system.claims_none and kind == RESTARTS
        tally.expect(f"{system.name}: {kind}", claims_none=claims_none)
    spans: list[Span] = []
    with contextlib.ExitStack() as stack:
        for way in ways.values():
            stack.callback(way.close)
        stack.enter_context(server)
        load = Load(server.port, "--rate", str(rate), "--events")
        try:
            for _ in range(slices):
                spans.append(_restarts(server, length))
                pace = (spans[-1][2] - spans[-1][1]) / max(1, spans[-1][3])
                spans += [_starting(quiet, pace, kind, way) for kind, way in ways.items()]
                begun = time.monotonic()
                with steady(quiet):
                    pass
                spans.append((NONE, begun, time.monotonic(), 0))
        finally:
            result = load.stop()
    for span in spans:
        sample = slice_of(result, span)
        told(f"{system.name}: {span[0]}", sample)
        tally.add(f"{system.name}: {span[0]}", sample)


def _restarts(server: Restartable, seconds: float) -> Span:
    begun, number = time.monotonic(), 0
    while time.monotonic() < begun + seconds:
        server.restart()
        number += 1
    return RESTARTS, begun, time.monotonic(), number


def _ways() -> dict[str, Way]:
    """Those that there are here, by the names of their rows."""
    found = {}
    for giving in Giving:
        try:
            found[giving.value] = Way(giving)
        except OSError as error:
            print(f"{giving.value}: {error}", flush=True)
    return found


def _starting(seconds: float, pace: float, kind: str, way: Way) -> Span:
    """As many processes of the same program start as a restart starts, and just end."""
    begun = time.monotonic()
    end = begun + seconds
    with way.around():
        while time.monotonic() < end:
            with steady(pace):
                for one in [_start(way) for _ in range(2)]:
                    way.end(one, end + pace - time.monotonic())
    return kind, begun, time.monotonic(), 0


def _start(way: Way) -> subprocess.Popen[bytes]:
    started = subprocess.Popen(ALONE, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    way.lower(started)
    return started


def slice_of(result: Result, span: Span) -> Sample:
    """What became of the attempts that were due within the span."""
    _, begun, ended, number = span
    latencies: list[float] = []
    kinds: dict[str, int] = {}
    attempts = 0
    for one in result.events:
        due = result.began_monotonic + one.at_s - one.latency_ms / 1000
        if not begun <= due < ended or not one.fate.attempt:
            continue
        attempts += 1
        if one.fate is Fate.OK:
            latencies.append(one.latency_ms)
        elif one.fate.lost:
            kinds[one.fate.value] = kinds.get(one.fate.value, 0) + 1
    latencies.sort()
    measures: dict[str, float] = {
        "attempts": attempts,
        "lost": sum(kinds.values()),
        "restarts": number,
    }
    for name, percent in (("p50_ms", 50), ("p99_ms", 99), ("max_ms", 100)):
        value = percentile(latencies, percent)
        if value is not None:
            measures[name] = value
    return Sample(measures, kinds)


def notes(rows: Sequence[Row]) -> list[str]:
    """The ratios that matter, of the medians."""
    p99 = {row.system: statistics.median(row.measures.get("p99_ms") or [0.0]) for row in rows}
    found = []
    for system in dict.fromkeys(name.rpartition(": ")[0] for name in p99):
        restarts = p99.get(f"{system}: {RESTARTS}", 0.0)
        told_of = [
            f"{restarts / p99[f'{system}: {kind}']:.2f} times that while {what}"
            for kind, what in _BESIDE.items()
            if p99.get(f"{system}: {kind}")
        ]
        if restarts and told_of:
            *first, last = told_of
            said = f"{', '.join(first)} and {last}" if first else last
            found.append(f"{system}: the p99 during restarts is {said}.")
    return found


CASE = Case(
    "back-to-back",
    "Restarts back to back for 60 s",
    "300 new connections a second, an open loop; slices of 10 s in which one restart follows the"
    " other take turns with slices of 2 s in which nothing else happens. For one system there are"
    " other kinds, in which two processes of the same program start and end at the same pace: as"
    " others do, at nice 19, and in a control group with cpu.idle."
    " A repetition is a slice.",
    measure,
    (
        Column("restarts", "restarts", "sum", 0),
        *(one for one in LOAD if one.measure != "gap_ms"),
    ),
    notes,
    quick={"seconds": 12.0, "slices": 2, "quiet": 1.0},
)
