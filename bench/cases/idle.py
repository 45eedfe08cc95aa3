"""What the supervisor itself costs: 64 idle workers, its memory and its share of a core."""

from __future__ import annotations

import time

from bench.case import Case, Sample, Tally
from bench.harness import Segue, free_port, steady
from bench.table import Column, Row
from segue.linux import proc

# A worker that accepts and does nothing else, so that 64 of them fit beside it.
_ANSWER = "b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n'"
_WORKER = (
    "import socket; s = socket.socket(fileno=3)\n"
    f"while True: c, _ = s.accept(); c.sendall({_ANSWER}); c.close()"
)


def measure(*, workers: int = 64, seconds: float = 10.0, repetitions: int = 3) -> list[Row]:
    """An instance that looks for stalls and one that does not, each looked at so many times."""
    tally = Tally()
    _look(tally, f"segue run, {workers} workers", (), workers, seconds, repetitions)
    off = ("--rescue", "off")
    _look(tally, f"segue run --rescue off, {workers} workers", off, workers, seconds, repetitions)
    return tally.rows()


def _look(
    tally: Tally, name: str, more: tuple[str, ...], workers: int, seconds: float, repetitions: int
) -> None:
    command = ["python3", "-S", "-E", "-c", _WORKER]
    with Segue(command, free_port(), engine="migrate", workers=workers, more=more) as server:
        pid = server.process.pid
        for _ in range(repetitions):
            before, begun = proc.cpu_seconds(pid), time.monotonic()
            with steady(seconds):
                pass
            used = (proc.cpu_seconds(pid) - before) / (time.monotonic() - begun)
            resident = proc.resident_bytes(pid) / 1e6
            tally.add(name, Sample({"resident_mb": resident, "core_percent": 100 * used}, {}))


CASE = Case(
    "idle",
    "The supervisor at rest",
    "64 workers that have nothing to do; three looks of 10 s.",
    measure,
    (Column("resident_mb", "resident MB"), Column("core_percent", "% of a core", digits=2)),
)
