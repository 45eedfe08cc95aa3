"""``segue history``: what has happened to an instance."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table

from segue.cli.shared.console import output_console
from segue.cli.shared.instance import instance_options
from segue.cli.shared.telling import cell, tell, tell_json
from segue.errors import UsageError
from segue.supervisor.control import instances, places
from segue.supervisor.control.client import find
from segue.supervisor.control.history import read
from segue.supervisor.control.paths import Paths, check_name
from segue.supervisor.lifecycle.chronicle import Event

_COLOURS = {"failed": "red", "served": "green"}
# These say it by their kind, and most of them are no good news.
_PLAIN = {"crash": "red", "kill": "red", "stall": "yellow", "replacement": "yellow"}


@click.command()
@instance_options
@click.option(
    "--last", default=20, show_default=True, type=click.IntRange(1), help="How many to show."
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="Only events of this kind, such as restart, crash or stall.  Can be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a list of events as JSON.")
def history(name: str, control: str, last: int, kinds: tuple[str, ...], *, as_json: bool) -> int:
    """Show what has happened to an instance, the latest last.

    These are restarts, crashes, stalls and orders.  The supervisor need not run.  After a stop,
    give the name of the instance.  Only segue run writes a history.
    """
    paths = _paths(name, control)
    events = [one for one in read(paths) if not kinds or one.kind in kinds]
    if as_json:
        tell_json([one.to_json() for one in events[-last:]], indent=2)
    elif events:
        show(events[-last:], output_console())
    else:
        of = f" of kind {' or '.join(kinds)}" if kinds else ""
        tell(f"nothing{of} is written down of {paths.name}")
    return 0


def _paths(name: str, control: str) -> Paths:
    """The files of the instance that these options pick, whether it runs or not."""
    if control:
        return Paths.at(control)
    if name:
        check_name(name)
    if any(name in {"", one.name} for one in instances.instances()):
        return Paths.at(find(name).control)
    known = sorted(
        {
            Paths(f"{place.path}/{entry.removesuffix('.history')}")
            for place in places.own_places()
            for entry in _entries(place.path)
            if entry.endswith(".history")
        },
        key=lambda paths: paths.base,
    )
    wanted = [one for one in known if name in {"", one.name}]
    if len(wanted) == 1:
        return wanted[0]
    if not wanted:
        what = f"of an instance named {name}" if name else "of an instance of yours"
        raise UsageError(f"there is no history {what}: segue run writes one")
    names = ", ".join(one.name for one in wanted)
    raise UsageError(f"several instances have a history; pick one with --name: {names}")


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def show(events: Sequence[Event], console: Console) -> None:
    """Draw one row for each event."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("when", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("what")
    for one in events:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at))
        took = _seconds(one.took) if one.stages else ""
        table.add_row(when, took, "\n".join(_lines(one)))
    console.print(table)


def _lines(one: Event) -> list[str]:
    """What is told of one event, most important first."""
    result = one.result or ("under way" if one.kind == "restart" else "")
    colour = _COLOURS.get(one.result, _PLAIN.get(one.kind, ""))
    said = cell(one.what) + (f": {cell(result)}" if result else "")
    lines = [f"[{colour}]{said}[/]" if colour else said]
    if one.why:
        lines.append(f"  because {cell(one.why)}" if one.result else f"  {cell(one.why)}")
    if len(one.stages) > 1 or (one.stages and one.kind == "restart"):
        stages = ", ".join(f"{_seconds(took)} {cell(name)}" for name, took in one.stages.items())
        lines.append(f"[dim]  {stages}[/]")
    if one.counts:
        counts = ", ".join(f"{count:,} {cell(name)}" for name, count in one.counts.items())
        lines.append(f"[dim]  connections: {counts}[/]")
    if one.by:
        lines.append(f"[dim]  by {cell(one.by)}[/]")
    return lines


def _seconds(took: float) -> str:
    return f"{took:.2f} s" if took < 100 else f"{took:.0f} s"
