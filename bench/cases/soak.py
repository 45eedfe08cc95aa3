"""A thousand restarts under load: nothing lost, and nothing leaked.

python -m bench.soak [--restarts 1000] [--engine migrate]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time

from rich.console import Console

from bench.harness import Load, Segue, apart, free_port, machine, steady
from segue.linux import proc

QUICK = (sys.executable, "-S", "-E", "examples/asyncio_server.py")


def main() -> int:
    """Measure and print; 1 when something was lost or grew."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    reader.add_argument("--restarts", type=int, default=1000)
    reader.add_argument("--engine", default="migrate")
    reader.add_argument("--rate", default="100")
    reader.add_argument("--workers", type=int, default=1)
    asked = reader.parse_args()
    console = Console(width=110)
    apart()
    console.print(f"{machine()}; engine {asked.engine}, {asked.workers} worker(s)")
    begun = time.monotonic()
    with Segue(list(QUICK), free_port(), engine=asked.engine, workers=asked.workers) as server:
        load = Load(server.port, "--rate", asked.rate, seconds=3600)
        try:
            for _ in range(min(20, asked.restarts)):
                server.restart()
            before = _held(server.process.pid)
            for _ in range(asked.restarts - 20):
                server.restart()
            after = _held(server.process.pid)
        finally:
            result = load.stop()
    seconds = time.monotonic() - begun
    console.print(
        f"{asked.restarts} restarts in {seconds:.0f} s, {result.total:,} connections,"
        f" {result.lost} lost, p99 {result.p99_ms or 0:.1f} ms",
        highlight=False,
    )
    for name in before:
        console.print(f"{name:18} {before[name]:>12,} -> {after[name]:>12,}", highlight=False)
    grown = [n for n in before if n != "resident bytes" and after[n] > before[n]]
    bloated = after["resident bytes"] > 1.1 * before["resident bytes"]
    return 1 if result.lost or grown or bloated else 0


def _held(pid: int) -> dict[str, int]:
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
        "of them bpf": maps,
        "processes": len(proc.tree(pid)),
        "resident bytes": proc.resident_bytes(pid),
    }


if __name__ == "__main__":
    raise SystemExit(main())
