"""Connections per second through the lab's link, with everything on one core.

A server, the probe and the cable between them share one core; each connection is opened, asked one
HTTP request, answered and closed, which takes two round trips.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench import load
from bench.case import Case, Sample, Tally
from bench.harness import ROOT
from bench.rounds import told
from bench.table import Column, Row
from segue.lab.link import Conditions
from segue.lab.scenario import SERVER, Scenario, distance
from segue.probe.fates import Fate

PORT = 8080


def measure(
    *, seconds: float = 5.0, connections: int = 400, rate: float = 2000.0,
    round_trip_ms: float = 40.0,
) -> list[Row]:  # fmt: skip
    """In a closed loop as fast as it goes, at a pace, and in a closed loop without the distance."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    closed = ["--concurrency", str(connections), "--max-open", str(connections)]
    tally = Tally()
    for name, pace, far_ms in (
        (f"{connections} at once, {round_trip_ms:g} ms", closed, round_trip_ms),
        (f"{rate:g} a second, {round_trip_ms:g} ms", ["--rate", str(rate)], round_trip_ms),
        (f"{connections} at once, 0 ms", closed, 0.0),
    ):
        with distance(Conditions(far_ms / 2000)) as lab:
            sample = _load(lab, pace, seconds)
        told(name, sample)
        tally.add(name, sample)
    return tally.rows()


def _load(lab: Scenario, pace: list[str], seconds: float) -> Sample:
    """One run of the probe against a server of its own."""
    server = lab.server.spawn(
        [sys.executable, "-m", "bench.least_server", SERVER, str(PORT)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout
    if server.stdout.readline() != b"ready\n":
        raise RuntimeError("the server did not start")
    before = lab.cable.ask(lambda *_: time.thread_time())
    probe = lab.client.spawn(
        [
            *(sys.executable, "-m", "bench.load", f"{SERVER}:{PORT}"),
            *(*pace, "--duration", str(seconds)),
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    text, _ = probe.communicate(timeout=seconds + 60)
    found = load.result(text)
    packets = sum(one.arrived for one in lab.cable.counts())
    cable_s = lab.cable.ask(lambda *_: time.thread_time()) - before
    measures = {
        "rate": found.rate,
        "failed": found.total - found.count(Fate.OK),
        "p50_ms": found.p50_ms or 0.0,
        "p99_ms": found.p99_ms or 0.0,
        "packets": packets / max(1, found.total),
        "cable_us": cable_s / max(1, packets) * 1e6,
        "dropped": lab.client.dropped() + lab.server.dropped(),
    }
    return Sample(measures, {})


CASE = Case(
    "link",
    "The lab's link",
    "Server, probe and cable on one core; each connection takes two round trips. In a closed loop"
    " as fast as it goes, then at a pace, which shows what the link adds to its round trips.",
    measure,
    (
        Column("rate", "connections/s", digits=0),
        Column("failed", "failed", digits=0),
        Column("p50_ms", "p50 ms"),
        Column("p99_ms", "p99 ms"),
        Column("packets", "packets each"),
        Column("cable_us", "cable us/packet"),
        Column("dropped", "dropped", digits=0),
    ),
    quick={"seconds": 1.0},
)
