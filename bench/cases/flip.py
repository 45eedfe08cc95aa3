"""From "ready" to "no new connection on the old generation": the supervisor's own clock."""

from __future__ import annotations

import sys

from bench.case import Case, Sample, Tally
from bench.harness import Segue, free_port
from bench.table import Column, Row

QUICK = (sys.executable, "-S", "-E", "examples/asyncio_server.py")


def measure(*, restarts: int = 30, workers: int = 2, engines: str = "migrate,drain") -> list[Row]:
    """One number for each restart."""
    tally = Tally()
    for engine in engines.split(","):
        with Segue(list(QUICK), free_port(), engine=engine, workers=workers) as server:
            for _ in range(restarts):
                server.restart()
                tally.add(f"engine {engine}", Sample({"flip_ms": server.status()["flip_ms"]}, {}))
    return tally.rows()


CASE = Case(
    "flip",
    "The flip to a new generation",
    "From the proof that the last newcomer is ready to the return of the call after which the"
    " kernel selects no old listener: one map write (migrate) or one setsockopt (drain). A"
    " repetition is a restart.",
    measure,
    (Column("flip_ms", "ms", digits=2),),
    quick={"restarts": 5},
)
