"""A worker is killed each second (SIGKILL): what goes with it, and what comes back."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence

from bench.case import Case, Sample
from bench.harness import Load, steady
from bench.rounds import alternate, seen
from bench.systems import standing
from bench.table import LOAD, Column, Row
from bench.ways import Overlapping, Restartable
from segue.linux import proc


def measure(*, repetitions: int = 3, kills: int = 4, clients: int = 32) -> list[Row]:
    """Each second the oldest of the processes that serve; whoever supervises them replaces it."""

    def once(server: Restartable) -> Sample:
        load = Load(server.port, "--concurrency", str(clients))
        killed = 0
        try:
            for _ in range(kills):
                with steady(1.0):
                    pass
                killed += _kill_oldest(server)
                if isinstance(server, Overlapping):
                    server.replace_dead()
            with steady(1.0):
                pass
        finally:
            result = load.stop()
        return seen(result, kills=killed)

    return alternate(standing(), repetitions, once)


def _kill_oldest(server: Restartable) -> bool:
    """False when there is none left."""
    ages = {pid: proc.start_time(pid) for pid in server.accepting()}
    living = {pid: age for pid, age in ages.items() if age is not None}
    if not living:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(min(living, key=lambda pid: (living[pid], pid)), signal.SIGKILL)
    return True


def notes(rows: Sequence[Row]) -> list[str]:
    """Who did not survive."""
    most = max((sum(row.measures.get("kills", [])) for row in rows), default=0)
    ended = [row.system for row in rows if 0 < sum(row.measures.get("kills", [])) < most]
    found = [
        (
            "Whoever kills a worker kills what it has accepted; what still waits in its listener"
            " is lost as well unless the listener outlives it or the queue moves."
        )
    ]
    if ended:
        found.append(
            f"{', '.join(ended)}: the whole service ended with a killed worker, and from then on"
            " every attempt is refused."
        )
    return found


CASE = Case(
    "kill",
    "A worker killed each second",
    "32 clients in a closed loop, a new connection for each request; SIGKILL to one of the two"
    " processes that serve, each second, four times a repetition.",
    measure,
    (Column("kills", "kills", "sum", 0), *LOAD),
    notes,
    quick={"kills": 2},
)
