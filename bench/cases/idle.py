"""What the supervisor itself costs: 64 idle workers, its memory and its share of a core.

python -m bench.idle [--workers 64] [--seconds 20] [--engine migrate]
"""

from __future__ import annotations

import argparse
import time

from rich.console import Console

from bench.harness import Segue, apart, free_port, machine, steady
from segue.linux import proc


def main() -> int:
    """Measure and print."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    reader.add_argument("--workers", type=int, default=64)
    reader.add_argument("--seconds", type=float, default=20.0)
    reader.add_argument("--engine", default="migrate")
    asked = reader.parse_args()
    console = Console(width=110)
    apart()
    port = free_port()
    # A worker that accepts and does nothing else, so that 64 of them fit beside it.
    answer = "b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n'"
    worker = (
        "import socket; s = socket.socket(fileno=3)\n"
        f"while True: c, _ = s.accept(); c.sendall({answer}); c.close()"
    )
    command = ["python3", "-S", "-E", "-c", worker]
    with Segue(command, port, engine=asked.engine, workers=asked.workers) as server:
        server.wait_ready()
        pid = server.process.pid
        before, begun = proc.cpu_seconds(pid), time.monotonic()
        with steady(asked.seconds):
            pass
        used = (proc.cpu_seconds(pid) - before) / (time.monotonic() - begun)
        console.print(
            f"{machine()}; engine {asked.engine}, {asked.workers} workers idle:"
            f" {proc.resident_bytes(pid) / 1e6:.1f} MB resident, {100 * used:.2f} % of a core",
            highlight=False,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
