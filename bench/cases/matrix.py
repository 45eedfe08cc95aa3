"""Every server, every engine: 20 restarts under load, a new connection for each request.

    python -m bench.matrix [--restarts 20] [--connections 20000] [--engines migrate,drain,hash]
                           [--servers uvicorn,...]

Each row is one run; it goes on until it has had both its restarts and its connections.
"""

from __future__ import annotations

import argparse
import statistics
import time

from rich.console import Console
from rich.table import Table

from bench.harness import Load, Segue, apart, free_port, machine, steady
from bench.servers import Kind, kinds
from segue.engine.select import SYSCTL
from segue.linux import sysctl
from segue.probe.result import Result


def main() -> int:
    """Run every pair; the number of rows that lost something, at most 1."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    reader.add_argument("--restarts", type=int, default=20)
    reader.add_argument("--connections", type=int, default=20_000)
    reader.add_argument("--engines", default="migrate,drain,hash")
    reader.add_argument("--servers", default=",".join(kinds()))
    reader.add_argument("--clients", default="16")
    asked = reader.parse_args()
    console = Console(width=118)
    own = apart()
    console.print(f"{machine()}; own network namespace: {'yes' if own else 'no'}")
    table = Table(box=None)
    for heading in ("server", "engine"):
        table.add_column(heading, no_wrap=True)
    for heading in ("connections", "restarts", "lost", "p50 ms", "p99 ms", "max ms", "s a restart"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("lost by kind")
    bad = 0
    for name in asked.servers.split(","):
        for engine in asked.engines.split(","):
            kind = kinds()[name]
            try:
                result, times = measure(
                    kind, engine, asked.restarts, asked.connections, asked.clients
                )
            except (RuntimeError, TimeoutError) as error:
                table.add_row(name, engine, *"-------", str(error).splitlines()[0][:60])
                console.print(f"{name} {engine}: {error}", markup=False)
                bad += 1
                continue
            bad += bool(result.lost)
            row = _row(result, times)
            console.print(f"{name:18}{engine:9}" + "  ".join(row), highlight=False)
            table.add_row(name, engine, *row)
    console.print(table)
    return min(bad, 1)


def measure(
    kind: Kind, engine: str, restarts: int, connections: int, clients: str
) -> tuple[Result, list[float]]:
    """One server under one engine; what became of the connections, and seconds a restart."""
    if engine == "hash":
        sysctl.write(SYSCTL, "1")
    try:
        port = free_port()
        with Segue(
            list(kind.command), port, engine=engine, workers=kind.workers, more=kind.more
        ) as server:
            load = Load(port, "--concurrency", clients, "--count", "100000000")
            begun = time.monotonic()
            times = []
            try:
                for _ in range(restarts):
                    with steady(0.3):
                        pass
                    times.append(server.restart())
                while (time.monotonic() - begun) * _slowest(kind) < connections:
                    with steady(0.5):
                        pass
            finally:
                result = load.stop()
            return result, times
    finally:
        if engine == "hash":
            sysctl.write(SYSCTL, "0")


def _slowest(kind: Kind) -> float:
    """Connections a second that even this server makes here, with some room."""
    return 600.0 if kind.name in {"hypercorn", "gunicorn-gthread"} else 900.0


def _row(result: Result, times: list[float]) -> list[str]:
    lost = ", ".join(f"{fate.value} {n}" for fate, n in result.counts.items() if fate.lost and n)
    latency = (result.p50_ms, result.p99_ms, result.max_ms)
    return [
        f"{result.total:,}",
        str(len(times)),
        str(result.lost),
        *("-" if one is None else f"{one:.1f}" for one in latency),
        f"{statistics.median(times):.2f}",
        lost or "-",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
