"""Latency while one restart follows the other, against none: alternating, in one run.

    python -m bench.back_to_back [--seconds 60] [--slices 6] [--rate 300]

The same instance serves an open-loop load all the time; slices of three kinds take turns, and each
attempt is counted to the slice in which it was due:

    none      nothing else happens
    starting  as many processes of the same program start as a restart starts, and just end
    restarts  one restart follows the other

"starting" is what the machine itself makes of programs that start beside a server: the part of
"restarts" that no way of restarting can avoid.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from rich.console import Console

from bench.harness import ROOT, Load, Segue, apart, free_port, machine, program, steady
from segue.probe.fates import Fate
from segue.probe.result import Result, percentile

QUICK = (sys.executable, "-m", "examples.asyncio_server")


def main() -> int:
    """Measure and print both; 1 when a connection was lost."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    reader.add_argument("--seconds", type=float, default=60.0, help="of each kind, all together")
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
    spans: list[tuple[float, float, str]] = []
    restarts = 0
    pace = 0.2
    with Segue(command, free_port(), engine=asked.engine) as server:
        server.wait_ready()
        load = Load(server.port, "--rate", asked.rate, "--events")
        try:
            for _ in range(asked.slices):
                begun = time.monotonic()
                times = []
                while time.monotonic() < begun + length:
                    times.append(server.restart())
                restarts += len(times)
                pace = statistics.median(times)
                spans.append((begun, time.monotonic(), "restarts"))
                for kind in ("none", "starting"):
                    begun = time.monotonic()
                    while kind == "starting" and time.monotonic() < begun + length:
                        with steady(pace):
                            _start_two(command)
                    with steady(begun + length - time.monotonic()):
                        pass
                    spans.append((begun, time.monotonic(), kind))
        finally:
            result = load.stop()
    medians = {}
    for kind in ("none", "starting", "restarts"):
        values = _p99s(result, spans, kind)
        medians[kind] = statistics.median(values)
        console.print(
            f"{kind:9} p99 {medians[kind]:6.2f} ms"
            f"  (slices {min(values):.2f} to {max(values):.2f})",
            highlight=False,
        )
    console.print(
        f"restarts to none {medians['restarts'] / medians['none']:.2f}, to starting"
        f" {medians['restarts'] / medians['starting']:.2f}; {restarts} restarts, one in"
        f" {pace:.2f} s, {result.total:,} connections, {result.lost} lost",
        highlight=False,
    )
    return 1 if result.lost else 0


def _start_two(command: list[str]) -> None:
    """Start the program twice without a listener: it loads all that it needs, and fails."""
    started = [
        subprocess.Popen(
            [word.replace("{fd}", "99") for word in command],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    for one in started:
        one.wait()


def _p99s(result: Result, spans: list[tuple[float, float, str]], kind: str) -> list[float]:
    """The 99th percentile of each slice of one kind."""
    found = []
    for begun, ended, its in spans:
        if its != kind:
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
