"""``segue status``: one look at an instance."""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from segue.cli.telling import cell, tell_json
from segue.cli.verbs import instance_options, request
from segue.errors import SegueError
from segue.supervisor.control.requests import Status
from segue.visible import whole


@click.command()
@instance_options
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def status(name: str, control: str, *, as_json: bool) -> int:
    """Show generations, workers, what waits where, and who else listens."""
    answer = request(name, control, Status())
    if answer["exit"]:
        return int(answer["exit"])
    if as_json:
        tell_json(answer["status"], indent=2)
    else:
        try:
            show(answer["status"], Console(width=None if sys.stdout.isatty() else 120))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise SegueError(
                f"this status cannot be shown: what answered is no supervisor, or one of another"
                f" version ({type(error).__name__}: {error})"
            ) from None
    return 0


def show(report: dict[str, Any], console: Console) -> None:
    """Draw the report of segue.supervisor.run.status."""
    report = whole(report)
    newer = f" and {report['newcomer']}" if report["newcomer"] else ""
    console.print(
        f"[bold]{cell(report['name'])}[/]  {cell(report['phase'])}, generation"
        f" {report['working']}{newer} of {report['size']} worker(s),"
        f" engine [bold]{cell(report['engine'])}[/]  (pid {report['pid']})"
    )
    for reason in report["reasons"]:
        console.print(f"  {cell(reason)}", style="dim", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("worker", "pid", "stage"):
        table.add_column(heading)
    # What the balance makes of a share is shown where there is one.
    balanced = report.get("balance", "off") != "off"
    weight = ("weight",) if balanced else ()
    for heading in ("age", *weight, "share", "queue", "drops", "held", "new", "migrated here"):
        table.add_column(heading, justify="right")
    colours = {"serving": "green", "draining": "yellow", "starting": "cyan", "standby": "cyan"}
    for one in report["workers"]:
        table.add_row(
            f"{one['generation']}.{one['id']}",
            f"{one['pid']} {cell(one.get('command', ''))}".rstrip(),
            f"[{colours.get(one['stage'], 'red')}]{cell(one['stage'])}[/]",
            f"{one['age']:.0f} s",
            *([f"{one['weight']:.2f}"] if balanced else []),
            f"{one['share']:g} %" if one["share"] else "-",
            str(one["queue"]),
            str(one["drops"]),
            "?" if one["connections"] is None else str(one["connections"]),
            str(one["new"]),
            str(one["migrated"]),
        )
    console.print(table)
    for one in report["workers"]:
        if one.get("stalls"):
            now = "accepts again"
            if one["stalled"] is not None:
                now = f"stalled for {one['stalled']:.1f} s"
            console.print(
                f"worker {one['generation']}.{one['id']} {now}: {one['stalls']} stall(s),"
                f" {one['rescued']} connection(s) rescued",
                style="green" if one["stalled"] is None else "yellow",
                highlight=False,
            )
    # A supervisor that runs since before an upgrade counts none of these.
    for one in report["workers"]:
        if one.get("left_out"):
            console.print(
                f"worker {one['generation']}.{one['id']} prints too much:"
                f" {one['left_out']:,} line(s) were left out of the log",
                style="yellow",
                highlight=False,
            )
    for counted, what in (
        ("unread", "line(s) were dropped because nobody read the log"),
        ("notifications_dropped", "notification(s) of other users were dropped"),
    ):
        if report.get(counted):
            console.print(f"{report[counted]:,} {what}", style="yellow", highlight=False)
    for front in report["fronts"]:
        console.print(
            f"{cell(front['address'])}: {front['listeners']} listener(s),"
            f" {front['half_open']} half-open, {front['by_hash']} by the kernel's hash",
            highlight=False,
        )
        # A supervisor that runs since before an upgrade does not speak of them.
        variables = front.get("variables", {})
        if variables:
            kept = ", ".join(f"{name} {number}" for name, number in variables.items())
            console.print(f"  {cell(report['object'])}: {cell(kept)}", highlight=False)
        if front.get("restored"):
            console.print(
                f"  its program was gone or exchanged {front['restored']} time(s), and put back",
                style="red",
                highlight=False,
            )
        for stranger in front["strangers"]:
            console.print(f"  also listens, left alone: {cell(stranger)}", style="yellow")
    if report["cut"]:
        console.print(f"{report['cut']} accepted connection(s) were cut so far", style="red")
