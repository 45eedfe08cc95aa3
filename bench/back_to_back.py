"""Latency while one restart follows the other, against none: alternating, in one run.

    python -m bench.back_to_back [--seconds 60] [--slices 6] [--rate 300]

The same instance serves an open-loop load all the time; slices with restarts and slices without
take turns, and each attempt is counted to the slice in which it was due.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from rich.console import Console

from bench.harness import Load, Segue, apart, free_port, machine, program, steady
from segue.probe.fates import Fate
from segue.probe.result import Result, percentile

QUICK = (sys.executable, "-m", "examples.asyncio_server")


def main() -> int:
    """Measure and print both; 1 when a connection was lost."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    reader.add_argument("--seconds", type=float, default=60.0, help="of restarts, all together")
    reader.add_argument("--slices", type=int, default=6, help="of each kind")
    reader.add_argument("--rate", default="300")
    reader.add_argument("--engine", default="migrate")
    reader.add_argument("--server", default="asyncio", choices=["asyncio", "uvicorn"])
    asked = reader.parse_args()
    console = Console(width=110)
    apart()
    uvicorn = [program("uvicorn"), "examples.hello:app", "--no-access-log", "--fd", "{fd}"]
    command = uvicorn if asked.server == "uvicorn" else list(QUICK)
    console.print(f"{machine()}; {asked.server}, engine {asked.engine}, {asked.rate} connections/s")
    length = asked.seconds / asked.slices
    spans: list[tuple[float, float, bool]] = []
    restarts = 0
    with Segue(command, free_port(), engine=asked.engine) as server:
        load = Load(server.port, "--rate", asked.rate, "--events")
        try:
            for number in range(2 * asked.slices):
                begun = time.monotonic()
                busy = number % 2 == 1
                while busy and time.monotonic() < begun + length:
                    server.restart()
                    restarts += 1
                with steady(begun + length - time.monotonic()):
                    pass
                spans.append((begun, time.monotonic(), busy))
        finally:
            result = load.stop()
    quiet, restarting = (_p99s(result, spans, busy=busy) for busy in (False, True))
    for name, values in (("no restarts", quiet), ("back to back", restarting)):
        console.print(
            f"{name:13} p99 {statistics.median(values):6.2f} ms"
            f"  (slices {min(values):.2f} to {max(values):.2f})",
            highlight=False,
        )
    ratio = statistics.median(restarting) / statistics.median(quiet)
    console.print(f"ratio of the medians {ratio:.2f}; {restarts} restarts,"
                  f" {result.total:,} connections, {result.lost} lost")  # fmt: skip
    return 1 if result.lost else 0


def _p99s(result: Result, spans: list[tuple[float, float, bool]], *, busy: bool) -> list[float]:
    """The 99th percentile of each slice of one kind."""
    found = []
    for begun, ended, is_busy in spans:
        if is_busy is not busy:
            continue
        latencies = sorted(
            one.latency_ms
            for one in result.events
            if one.fate is Fate.OK
            and begun <= result.began_monotonic + one.at_s - one.latency_ms / 1000 < ended
        )
        value = percentile(latencies, 99)
        if value is not None:
            found.append(value)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
