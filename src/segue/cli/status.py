"""``segue status``: one look at an instance."""

from __future__ import annotations

import time

import click
from rich.console import Console
from rich.table import Table

from segue.cli.shared.console import output_console
from segue.cli.shared.instance import instance_options, request
from segue.cli.shared.telling import cell, tell_json
from segue.supervisor.control import requests
from segue.supervisor.control.status import Status, WorkerStatus
from segue.version import VERSION
from segue.visible import whole


@click.command()
@instance_options
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def status(name: str, control: str, *, as_json: bool) -> int:
    """Show the workers and their connections."""
    answer = request(name, control, requests.ShowStatus())
    if answer["exit"]:
        return int(answer["exit"])
    if as_json:
        tell_json(answer["status"], indent=2)
    else:
        found = Status.from_json(whole(answer.get("status")))
        show(found, output_console())
    return 0


def _head(status: Status, console: Console) -> None:
    console.print(
        f"[bold]{cell(status.name)}[/]  {cell(status.phase)}, {_generations(status)},"
        f" engine [bold]{cell(status.engine)}[/]  (pid {status.pid})"
    )
    if status.version and status.version != VERSION:
        console.print(
            f"this is Segue {VERSION}, and the supervisor runs {cell(status.version)}:"
            " segue reexec exchanges it",
            style="yellow",
            highlight=False,
        )


def show(status: Status, console: Console) -> None:
    """Draw the status as a table, with a line for each thing to notice."""
    _head(status, console)
    for reason in (*status.reasons, *_giving_way(status)):
        console.print(f"  {cell(reason)}", style="dim", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("worker", "pid", "stage"):
        table.add_column(heading)
    # Weights are shown only if --balance changes them.
    balanced = status.balance != "off"
    weight = ("weight",) if balanced else ()
    memory = ("memory",) if any(one.memory for one in status.workers) else ()
    headings = (*weight, "share", "queue", "drops", "held", "new", "migrated here")
    for heading in ("age", *memory, *headings):
        table.add_column(heading, justify="right")
    colours = {"serving": "green", "draining": "yellow", "starting": "cyan", "standby": "cyan"}
    for one in status.workers:
        table.add_row(
            f"{one.generation}.{one.id}",
            f"{one.pid} {cell(one.command)}".rstrip(),
            f"[{colours.get(one.stage, 'red')}]{cell(one.stage)}[/]",
            f"{one.age:.0f} s",
            *([f"{one.memory / (1 << 20):.0f} MB"] if memory else []),
            *([f"{one.weight:.2f}"] if balanced else []),
            f"{one.share:g} %" if one.share else "-",
            str(one.queue),
            "-" if one.drops is None else str(one.drops),
            "?" if one.connections is None else str(one.connections),
            str(one.new),
            str(one.migrated),
        )
    console.print(table)
    if any(one.drops is None for one in status.workers):
        console.print(
            "drops are not shown where TCP_DEFER_ACCEPT is set: the kernel counts one for each"
            " connection there",
            style="dim",
            highlight=False,
        )
    runs = {one.generation: one for one in status.generations}
    for start in status.generations:
        there = "" if start.resolved == start.directory else f" ({start.resolved})"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(start.started))
        what = f"{start.program} in {start.directory}{there}, since {since}"
        console.print(
            f"generation {start.generation}: {cell(what)}", highlight=False, soft_wrap=True
        )
    for one in status.workers:
        of = runs.get(one.generation)
        if of is not None and one.directory != of.resolved:
            console.print(
                f"worker {one.generation}.{one.id} runs in {cell(one.directory)}",
                style="yellow",
                highlight=False,
                soft_wrap=True,
            )
    if status.settings_changed:
        console.print(cell(status.settings_changed), style="yellow", highlight=False)
    if status.leftovers == "keep":
        console.print("what workers leave running is left alone (--leftovers keep)", style="dim")
    if status.queued:
        console.print(f"a restart waits {cell(status.queued)}", style="yellow", highlight=False)
    if status.progress:
        console.print(cell(status.progress), style="yellow", highlight=False)
    if status.outage:
        console.print(cell(status.outage), style="red", highlight=False)
    for one in status.workers:
        _notes(one, console)
    for counted, what in (
        (status.unread, "line(s) were dropped because no process read the log"),
        (status.notifications_dropped, "notification(s) from other users were dropped"),
    ):
        if counted:
            console.print(f"{counted:,} {what}", style="yellow", highlight=False)
    for text, style in carrying(status):
        console.print(cell(text), style=style, highlight=False, soft_wrap=True)
    for front in status.fronts:
        console.print(
            f"{cell(front.address)}: {front.listeners} listener(s),"
            f" {front.half_open} half-open, {front.by_hash} given by the kernel's hash",
            highlight=False,
        )
        if front.variables:
            kept = ", ".join(f"{name} {number}" for name, number in front.variables.items())
            console.print(f"  {cell(status.object)}: {cell(kept)}", highlight=False)
        if front.restored:
            console.print(
                f"  the program was removed or exchanged {front.restored} time(s) and put back",
                style="red",
                highlight=False,
            )
        if front.standby:
            console.print("  one of them is the service manager's, for when nothing runs")
        for stranger in front.strangers:
            console.print(f"  also listens and is left alone: {cell(stranger)}", style="yellow")
    if status.failure:
        console.print(
            f"{cell(status.failure)} (segue history)", style="red", highlight=False, soft_wrap=True
        )
    if status.cut:
        console.print(f"{status.cut} connection(s) were cut so far", style="red")


def _giving_way(status: Status) -> list[str]:
    how = status.gives_way
    return [f"new workers leave processors to those that serve, {how}"] if how else []


def carrying(status: Status) -> list[tuple[str, str]]:
    """What has become of kept connections, in lines with their styles."""
    if status.carry == "off":
        why = status.carry_reason
        return [(f"kept connections are not carried: {why}", "dim")] if why else []
    counts = (
        (status.carried_unread, "with an unread request"),
        (status.carried_stalled, "from workers that stalled"),
        (status.carry_delayed, "delayed until a queue had room"),
    )
    more = "".join(f", {count} {what}" for count, what in counts if count)
    lines = [(f"{status.carried} kept connection(s) carried to other workers{more}", "")]
    if status.carry_lost:
        lines.append((f"{status.carry_lost} lost: no listener took them", "red"))
    lines += [
        (f"  {count} left alone: {why}", "dim") for why, count in sorted(status.left_alone.items())
    ]
    return lines + _holding(status)


def _holding(status: Status) -> list[tuple[str, str]]:
    """The same of those that are held."""
    if not status.held_wanted:
        return []
    lines = [(f"{status.held} kept connection(s) held for a crash of their worker", "")]
    if status.held_reason:
        lines.append((f"  {status.held_reason}", "yellow"))
    if status.held_carried:
        lines.append((f"  {status.held_carried} carried from workers that ended", ""))
    lines += [
        (f"  {count} ended with their worker: {why}", "dim")
        for why, count in sorted(status.held_ended.items())
    ]
    if status.waiting_idle or status.went_on:
        waits = f"{status.waiting_idle} connection(s) that their worker closed wait for a request"
        lines.append((f"{waits}; {status.went_on} went on with one", ""))
    return lines


def _notes(worker: WorkerStatus, console: Console) -> None:
    """What there is to notice of one worker."""
    notes: list[tuple[str, str]] = []
    if worker.stalls:
        now, colour = "accepts again", "green"
        if worker.stalled is not None:
            now, colour = f"stalled for {worker.stalled:.1f} s", "yellow"
        moved = f"{worker.stalls} stall(s), {worker.rescued} connection(s) rescued"
        notes.append((f"{now}: {moved}", colour))
    if worker.hangs:
        notes.append((worker.hangs, "red"))
    if worker.failing:
        notes.append((f"is unwell: {worker.failing}", "red"))
    if worker.recycling:
        notes.append((f"is recycled: {worker.recycling}", "yellow"))
    elif worker.outgoing:
        notes.append((f"is replaced: {worker.outgoing}", "yellow"))
    if worker.missing:
        notes.append((f"is not ready: {worker.missing}", "yellow"))
    if worker.left_out:
        lost = f"prints too much: {worker.left_out:,} line(s) were left out of the log"
        notes.append((lost, "yellow"))
    for note, colour in notes:
        name = f"worker {worker.generation}.{worker.id}"
        console.print(f"{name} {cell(note)}", style=colour, highlight=False)


def _generations(status: Status) -> str:
    known = [str(one) for one in (status.working, status.newcomer) if one is not None]
    if not known:
        return "no generation"
    if len(known) == 1:
        return f"generation {known[0]}, {status.size} worker(s)"
    # An attached group counts the workers of both.
    each = " each" if len(status.workers) > status.size else ""
    return f"generations {' and '.join(known)}, {status.size} worker(s){each}"
