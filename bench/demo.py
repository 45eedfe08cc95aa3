"""``make demo``: one application, restarted five times under load, with and without Segue.

The same uvicorn application serves new connections and kept ones, first under ``segue run``, then
under ``uvicorn --workers 2`` restarted by SIGHUP, uvicorn's own way.  One table says what the
clients saw.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import Hup, Load, Segue, apart, free_port, machine, program, steady
from segue.engine.select import choose
from segue.probe.result import Result

RESTARTS = 5
CLIENTS = "16"  # at a time, each with a new connection for every request
KEPT = "50"  # connections with a request every 100 ms
APPLICATION = "examples.draining:app"
PAUSE = 1.5  # seconds between restarts


def main() -> int:
    """Run both and print the table; 1 when Segue lost a connection."""
    # Into a file or a pipe, rich would fold the table to 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 112)
    own = apart()
    choice = choose("auto" if own else "drain")
    console.print(f"{machine()}; a network namespace of its own: {'yes' if own else 'no'}")
    if own:
        console.print(f"engine [bold]{choice.engine}[/]: {'; '.join(choice.reasons)}")
    else:
        console.print(
            "engine [bold]drain[/]: without root no network namespace, and most kernels keep eBPF"
            " to root; drain needs no privilege"
        )
    uvicorn = [program("uvicorn"), APPLICATION, "--no-access-log", "--log-level", "warning"]
    rows: list[tuple[str, str, Result, list[float]]] = []
    port = free_port()
    with Segue([*uvicorn, "--fd", "3"], port, engine=choice.engine) as server:
        console.print(f"segue run, restarted {RESTARTS} times...", style="dim")
        rows += _measure("segue run", server)
    port = free_port()
    argv = [*uvicorn, "--workers", "2", "--host", "127.0.0.1", "--port", str(port)]
    with Hup(argv, port) as native:
        console.print(f"uvicorn --workers 2, SIGHUP {RESTARTS} times...", style="dim")
        rows += _measure("uvicorn SIGHUP", native)
    console.print(_table(rows))
    lost = sum(result.lost for name, _, result, _ in rows if name == "segue run")
    console.print(
        "Segue lost none." if not lost else f"Segue lost {lost}: please report this.",
        style="green" if not lost else "red",
    )
    return 1 if lost else 0


def _measure(name: str, server: Segue | Hup) -> list[tuple[str, str, Result, list[float]]]:
    new = Load(server.port, "--concurrency", CLIENTS)
    kept = Load(server.port, "--keep-alive", KEPT, "--interval", "0.1")
    times = []
    try:
        for _ in range(RESTARTS):
            with steady(PAUSE):
                pass
            times.append(server.restart())
        with steady(PAUSE):
            pass
    finally:
        results = [new.stop(), kept.stop()]
    return [
        (name, "new connections", results[0], times),
        (name, "kept connections", results[1], times),
    ]


def _table(rows: list[tuple[str, str, Result, list[float]]]) -> Table:
    table = Table(title=f"{RESTARTS} restarts under load", title_justify="left", box=None)
    table.add_column("restarted by", no_wrap=True)
    table.add_column("load", no_wrap=True)
    for heading in ("requests", "lost", "p50 ms", "p99 ms", "max ms", "s a restart"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("lost by kind")
    for name, load, result, times in rows:
        kinds = ", ".join(
            f"{fate.value.replace('_', ' ')} {count}"
            for fate, count in result.counts.items()
            if fate.lost and count
        )
        table.add_row(
            name,
            load,
            f"{result.total:,}",
            f"[{'red' if result.lost else 'green'}]{result.lost}[/]",
            *(f"{value:.1f}" if value is not None else "-" for value in
              (result.p50_ms, result.p99_ms, result.max_ms)),
            f"{statistics.median(times):.2f}",
            kinds or "-",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        code = main()
        sys.stdout.flush()
        os._exit(code)
