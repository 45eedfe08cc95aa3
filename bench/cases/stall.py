"""One worker stalls, 1 s of every 3: alive, and accepting nothing."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence

from bench.case import Case, Sample
from bench.harness import Load, steady
from bench.rounds import alternate, seen
from bench.systems import standing
from bench.table import LOAD, Row
from bench.ways import Restartable


def measure(*, repetitions: int = 3, stalls: int = 2, rate: int = 400) -> list[Row]:
    """SIGSTOP and SIGCONT, so that every server stalls in the same way."""

    def once(server: Restartable) -> Sample:
        victim = min(server.accepting())
        load = Load(server.port, "--rate", str(rate))
        try:
            for _ in range(stalls):
                with steady(1.0):
                    pass
                os.kill(victim, signal.SIGSTOP)
                with steady(1.0):
                    pass
                os.kill(victim, signal.SIGCONT)
                with steady(1.0):
                    pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGCONT)
            result = load.stop()
        return seen(result)

    return alternate(standing(), repetitions, once)


def notes(rows: Sequence[Row]) -> list[str]:
    """What the listeners have to do with it."""
    del rows
    return [
        (
            "Where all workers accept from one shared listener, the others take what comes;"
            " where each has its own, the kernel goes on giving the stalled one its part, unless"
            " `segue run` takes it away."
        ),
        "HAProxy has one worker process, and when it stalls all of it does.",
    ]


CASE = Case(
    "stall",
    "One worker stalled 1 s of every 3",
    "400 new connections a second, an open loop; one of the processes that serve is stopped"
    " (SIGSTOP) for 1 s of every 3, twice a repetition.",
    measure,
    LOAD,
    notes,
    quick={"stalls": 1},
)
