"""``segue plan``: what a restart will cost by each way to empty a listener."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from segue.address import Address
from segue.cli.shared.console import output_console
from segue.cli.shared.netns import netns_option
from segue.cli.shared.telling import tell, tell_json, write_page
from segue.errors import NotSupported
from segue.linux import netns as namespaces
from segue.observe.snapshot import Observer

if TYPE_CHECKING:
    from segue.plan.load import Load

EXTRA, LIBRARIES = "plan", {"numpy", "distributed"}
_GIVEN = {
    "rate": "--rate", "rtt": "--rtt", "accept": "--accept", "answer": "--answer", "kept": "--kept",
    "think": "--think", "backlog": "--backlog", "workers": "--workers", "stall": "--stall",
    "loss": "--loss", "burst": "--burst", "careless": "--careless",
    "closes_after": "--closes-after",
}  # fmt: skip
# What no look tells, or what is believed instead of it.
_BESIDE_A_LOOK = {"rate", "careless", "closes_after"}


@click.command(
    epilog="A time is MEDIAN, MEDIAN,P99 or PERCENT:MS,PERCENT:MS,... in milliseconds."
    "  Exit codes: 0 if there is a forecast; 2 for wrong usage, or if no process listens there."
)
@click.option("--rate", type=float, help="New connections a second, at all workers together.")
@click.option("--rtt", metavar="TIME", help="Round trips of clients.  [default: 40]")
@click.option("--accept", metavar="TIME", help="From its handshake to accept().  [default: 0.2]")
@click.option("--answer", metavar="TIME", help="From accept() to an answer's end.  [default: 20]")
@click.option("--kept", type=int, help="Connections that clients keep.  [default: 0]")
@click.option("--think", type=float, help="Seconds between two requests on these.  [default: 5]")
@click.option("--backlog", type=int, help="Of each listener, as listen(2) has it.  [default: 4096]")
@click.option("--workers", type=int, help="Listeners that a restart replaces.  [default: 4]")
@click.option("--stall", metavar="S,EVERY", help="Seconds that each worker stalls, of so many.")
@click.option("--loss", type=float, metavar="PERCENT", help="Packets that are lost.  [default: 0]")
@click.option(
    "--burst", type=float, metavar="PERCENT",
    help="How much the rate differs from restart to restart.  [default: 0]",
)  # fmt: skip
@click.option(
    "--careless", type=float, metavar="PERCENT",
    help="Clients that send without a check whether the connection was closed.  [default: 0]",
)  # fmt: skip
@click.option(
    "--closes-after", type=float, metavar="SECONDS",
    help="How long a worker that stops accepting keeps its listener.  [default: 0]",
)  # fmt: skip
@click.option("--from", "source", metavar="ADDRESS", help="Look at the group that listens there.")
@click.option("--seconds", default=60.0, show_default=True, help="How long to look.")
@click.option("--restarts-per-day", default=10.0, show_default=True, help="How often you restart.")
@click.option(
    "--guard", default=1.0, show_default=True, help="Seconds that backlog-zero and drain wait."
)
@click.option(
    "--limit", default=30.0, show_default=True, help="Seconds after which what is left is cut."
)
@click.option(
    "--beside", default=50.0, show_default=True, metavar="PERCENT",
    help="If a way does not steer: new connections that successors get before the old ones close.",
)  # fmt: skip
@click.option("--simulate", default=1000, show_default=True, help="Restarts to simulate.")
@click.option("--seed", default=1, show_default=True, help="The same seed, the same figures.")
@click.option("--sweep", metavar="FILE", help="Forecast every configuration of a file of TOML.")
@click.option(
    "--results", metavar="FILE",
    help="Where results of a sweep are kept, so that it can go on.  [default: FILE.results]",
)  # fmt: skip
@click.option("--processes", type=click.IntRange(1, 1024), help="Of a sweep.  [default: all CPUs]")
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler that runs a sweep.")
@click.option("--html", "html", metavar="FILE", help="Also write a page with pictures of a sweep.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@netns_option
def plan(
    source: str | None,
    seconds: float,
    restarts_per_day: float,
    guard: float,
    limit: float,
    beside: float,
    simulate: int,
    seed: int,
    netns: str,
    sweep: str | None,
    results: str | None,
    processes: int | None,
    scheduler: str | None,
    html: str | None,
    *,
    as_json: bool,
    **given: Any,
) -> int:
    """Say what a restart will cost, by each way to empty a listener.

    From figures that you give, or from a live group: --from :443 looks at it for a minute.  For
    each way: what one restart loses, and how long until the old configuration is gone.  Then which
    way to take, and why.  Nothing is changed.
    """
    try:
        from segue.plan import simulate as simulation  # noqa: PLC0415  an extra
    except ImportError as error:
        raise _missing(error) from None
    from segue.plan.given import load as as_given  # noqa: PLC0415  as above
    from segue.plan.load import Limits  # noqa: PLC0415  as above
    from segue.plan.plain import as_plain  # noqa: PLC0415  as above
    from segue.plan.screen import show  # noqa: PLC0415  as above

    if sweep:
        return _sweep(sweep, results, processes, scheduler, html, as_json=as_json)
    if html is not None:
        raise click.UsageError("--html is a page of a sweep: give --sweep FILE")
    if not 0 <= restarts_per_day < math.inf or not 0 < seconds <= 86400:
        raise click.UsageError("restarts are at least 0 a day, and a look lasts at most a day")
    load, notes = _from_group(source, seconds, netns, given) if source else (as_given(given), [])
    study = simulation.Study(load, Limits(guard, limit, beside=beside / 100), simulate, seed)
    begun = time.perf_counter()
    with _bar("simulating", len(study.chunks())) as moved:
        found = simulation.forecast(study, lambda done, _: moved(done))
    took = time.perf_counter() - begun
    if as_json:
        tell_json(as_plain(found, restarts_per_day, notes), indent=2)
    else:
        show(found, restarts_per_day, notes, took, output_console())
    return 0


def _missing(error: ImportError) -> Exception:
    if error.name not in LIBRARIES:
        return error
    needs = f"the extra {EXTRA} (pip install 'segue[{EXTRA}]')"
    return NotSupported("planning a restart", needs, "none")


def _sweep(
    path: str,
    results: str | None,
    processes: int | None,
    scheduler: str | None,
    html: str | None,
    *,
    as_json: bool,
) -> int:
    """Do what is not done yet; then draw all of it."""
    try:
        from segue.plan import cluster  # noqa: PLC0415  an extra
    except ImportError as error:
        raise _missing(error) from None
    from segue.plan import sweep  # noqa: PLC0415  as above
    from segue.plan.page import page  # noqa: PLC0415  as above
    from segue.plan.results import Results  # noqa: PLC0415  as above
    from segue.plan.screen import show_sweep  # noqa: PLC0415  as above

    if scheduler and processes:
        raise click.UsageError("--processes are of this machine: leave it or --scheduler out")
    with open(path, encoding="utf-8") as file:
        asked = sweep.parse(file.read())
    total = len(asked.configurations)
    with Results(results or f"{path}.results", asked.digest) as kept:
        ahead = [
            (number, one)
            for number, one in enumerate(asked.configurations)
            if number not in kept.done
        ]
        if ahead:
            count = processes or min(len(ahead), os.cpu_count() or 1)
            try:
                with cluster.client(scheduler or "", count) as made, _bar("sweep", total) as moved:
                    for number, found in cluster.finished(made, sweep.result, ahead):
                        kept.add(number, found)
                        moved(len(kept.done))
            except KeyboardInterrupt:
                tell(
                    f"segue: {len(kept.done)} of {total} configurations are done; the same command"
                    " goes on with the others",
                    err=True,
                )
                return 130
        done = [kept.done[number] for number in range(total)]
    if html is not None:
        write_page(html, page(done))
    if as_json:
        tell_json(done, indent=2)
    else:
        show_sweep(done, output_console())
    return 0


def _from_group(
    source: str, seconds: float, netns: str, given: dict[str, Any]
) -> tuple[Load, list[str]]:
    from segue.plan import live  # noqa: PLC0415  an extra

    wrong = [
        option
        for name, option in _GIVEN.items()
        if given[name] is not None and name not in _BESIDE_A_LOOK
    ]
    if wrong:
        raise click.UsageError(f"{wrong[0]} is looked at with --from: leave one of them out")
    asked = Address.parse(source)
    with (
        namespaces.visited(netns),
        Observer() as observer,
        _bar(f"looking at {source}", seconds) as moved,
    ):
        seen = live.look(observer, observer.serving(asked), seconds, moved)
    others = (
        f"Listeners at other addresses here: {seen.others}.  Linux counts their connections with"
        " these: give --rate if they have many."
    )
    notes = [others] if seen.others and given["rate"] is None else []
    load = live.as_load(seen, given["rate"])
    careless, after_s = (given["careless"] or 0.0) / 100, given["closes_after"] or 0.0
    return replace(load, careless=careless, closes_after_s=after_s), notes


@contextmanager
def _bar(doing: str, total: float) -> Iterator[Callable[[float], None]]:
    """How far it is, on stderr and only on a terminal; yields what is told how much is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda done: bar.update(task, completed=done)
