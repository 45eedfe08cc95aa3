"""Hundreds of restarts under load: nothing lost, and nothing leaked."""

from __future__ import annotations

import contextlib
import os
import sys

from bench.case import Case, Tally
from bench.harness import Load, Segue, free_port, steady
from bench.rounds import seen
from bench.table import LOAD, Column, Row
from bench.usage import resident_bytes
from segue.linux import proc

QUICK = (sys.executable, "-S", "-E", "examples/asyncio_server.py")
WARM = 20  # restarts before the first look, by when every cache is filled


def measure(
    *, restarts: int = 200, engine: str = "migrate", rate: int = 100, workers: int = 1
) -> list[Row]:
    """One run; what the supervisor holds after the first restarts and after the last."""
    tally, name = Tally(), f"segue run, asyncio example, {restarts} restarts"
    with Segue(list(QUICK), free_port(), engine=engine, workers=workers) as server:
        tally.expect(name, command=server.shown, claims_none=True)
        load = Load(server.port, "--rate", str(rate), seconds=3600)
        try:
            for _ in range(WARM):
                server.restart()
            before = _held(server.process.pid)
            for _ in range(restarts - WARM):
                server.restart()
            after = _held(server.process.pid)
        finally:
            result = load.stop()
    more = {name: after[name] - before[name] for name in before}
    tally.add(name, seen(result, **more))
    return tally.rows()


def _held(pid: int) -> dict[str, float]:
    """What a supervisor that leaks would have more of."""
    maps = 0
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            maps += "bpf" in os.readlink(f"/proc/{pid}/fd/{entry}")
    # The least of several looks: the last order's connection is being closed at this moment.
    looks = []
    for _ in range(20):
        with steady(0.05):
            looks.append(len(os.listdir(f"/proc/{pid}/fd")))
    return {
        "descriptors": min(looks),
        "bpf": maps,
        "processes": len(proc.tree(pid)),
        "resident_mb": resident_bytes(pid) / 1e6,
    }


CASE = Case(
    "soak",
    "Restarts by the hundred",
    "100 new connections a second, an open loop, while one restart follows the other"
    " (`python -m bench soak restarts=1000` for more). The last columns are what the supervisor"
    " has more of after the last restart than after the twentieth.",
    measure,
    (
        *LOAD,
        Column("descriptors", "more descriptors", digits=0),
        Column("bpf", "more bpf", digits=0),
        Column("processes", "more processes", digits=0),
        Column("resident_mb", "more MB"),
    ),
    quick={"restarts": 40},
)
