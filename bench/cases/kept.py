"""Kept connections through restarts: with the middleware, without it, and the server's own way.

    python -m bench.keepalive [--restarts 5] [--servers uvicorn,...]

50 connections, a request every 100 ms on each.  A request sent on a kept connection without an
answer is lost; an idle connection that the server closes is not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from bench.harness import Hup, Load, Segue, Server, apart, free_port, machine, steady
from bench.servers import Kind, kinds
from segue.probe.fates import Fate
from segue.probe.result import Result

DRAIN = ("--drain-timeout", "5")


def main() -> int:
    """Run every server in its three ways."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    reader.add_argument("--restarts", type=int, default=5)
    reader.add_argument("--engine", default="migrate")
    known = [one.name for one in kinds().values() if one.draining]
    reader.add_argument("--servers", default=",".join(known))
    asked = reader.parse_args()
    console = Console(width=118)
    apart()
    console.print(f"{machine()}; segue run --engine {asked.engine} {' '.join(DRAIN)}")
    table = Table(box=None)
    for heading in ("server", "restarted by"):
        table.add_column(heading, no_wrap=True)
    for heading in ("requests", "restarts", "lost", "closed idle", "p99 ms"):
        table.add_column(heading, justify="right")
    table.add_column("lost by kind")
    bad = 0
    for name in asked.servers.split(","):
        kind = kinds()[name]
        for way, server in _ways(kind, asked.engine):
            with server:
                result = _measure(server, asked.restarts)
            bad += bool(result.lost) and way == "segue, Draining"
            lost = ", ".join(f"{f.value} {n}" for f, n in result.counts.items() if f.lost and n)
            row = [
                *(name, way, f"{result.total:,}", str(asked.restarts), str(result.lost)),
                *(str(result.count(Fate.IDLE_CLOSED)), f"{result.p99_ms or 0:.1f}", lost or "-"),
            ]
            console.print("  ".join(row), highlight=False)
            table.add_row(*row)
    console.print(table)
    return min(bad, 1)


def _ways(kind: Kind, engine: str) -> Iterator[tuple[str, Segue | Hup]]:
    """One after the other: a Server starts when it is made."""
    for way, command in (("segue, Draining", kind.draining), ("segue, without", kind.command)):
        more = (*kind.more, *DRAIN)
        yield (
            way,
            Segue(list(command), free_port(), engine=engine, workers=kind.workers, more=more),
        )
    port = free_port()
    own = [word.replace("{port}", str(port)) for word in kind.own]
    yield "its own SIGHUP", Hup(own, port)


def _measure(server: Server, restarts: int) -> Result:
    assert isinstance(server, Segue | Hup)
    load = Load(server.port, "--keep-alive", "50", "--interval", "0.1")
    try:
        for _ in range(restarts):
            with steady(1.0):
                pass
            server.restart()
        with steady(1.0):
            pass
    finally:
        result = load.stop()
    return result


if __name__ == "__main__":
    raise SystemExit(main())
