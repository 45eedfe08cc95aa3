"""From "ready" to "no new connection on the old generation": the supervisor's own clock.

    python -m bench.flip [--restarts 50] [--engine migrate]

The time from the proof that the last newcomer is ready to the return of the call after which the
kernel selects no old listener: one map write (migrate), one setsockopt (drain, hash).
"""

from __future__ import annotations

import argparse
import statistics
import sys

from rich.console import Console

from bench.harness import Segue, apart, free_port, machine


def main() -> int:
    """Measure and print."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    reader.add_argument("--restarts", type=int, default=50)
    reader.add_argument("--engines", default="migrate,drain")
    reader.add_argument("--workers", type=int, default=2)
    asked = reader.parse_args()
    console = Console(width=110)
    apart()
    console.print(f"{machine()}; {asked.workers} workers, {asked.restarts} restarts each")
    command = [sys.executable, "-S", "-E", "examples/asyncio_server.py"]
    for engine in asked.engines.split(","):
        times = []
        with Segue(command, free_port(), engine=engine, workers=asked.workers) as server:
            server.wait_ready()
            for _ in range(asked.restarts):
                server.restart()
                times.append(server.status()["flip_ms"])
        console.print(
            f"{engine:8} median {statistics.median(times):.2f} ms"
            f"  ({min(times):.2f} to {max(times):.2f})",
            highlight=False,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
