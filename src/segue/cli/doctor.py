"""``segue doctor``: which engine works here, found by trying, and what a restart now would lose."""

from __future__ import annotations

import os
import platform
from collections import defaultdict

import click
from rich.console import Console
from rich.table import Table

from segue.address import Address
from segue.cli.shared.console import output_console
from segue.cli.shared.telling import cell
from segue.engine.carry_trial import try_carry
from segue.engine.defects import KernelRelease, forbids_migration, wakes
from segue.engine.select import (
    SYSCTL,
    EngineChoice,
    Experiment,
    choose,
    try_drain,
    try_hash,
    try_migrate,
)
from segue.errors import NotSupported, SegueError
from segue.group import Group
from segue.linux import proc, sysctl
from segue.linux.features import FEATURES, Answer, ask
from segue.linux.sock_diag import State
from segue.observe.snapshot import Observer, Part


@click.command()
@click.argument("address", required=False)
def doctor(address: str | None) -> int:
    """Try each engine, and report what a restart would lose now.

    Engines are tried on a private port.  Looks at ADDRESS, or without one at every listener.  The
    exit code is 1 where no engine works.
    """
    # Into a file or a pipe, rich would fold everything to 80 columns.
    console = output_console()
    asked = Address.parse(address) if address else None
    choice = _choose(console)
    console.print()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("engine", "works", "because"):
        table.add_column(heading)
    forbidden = _forbidden()
    for name, attempt in (("migrate", try_migrate), ("hash", try_hash), ("drain", try_drain)):
        trial = Experiment(error=forbidden) if forbidden and name != "drain" else attempt()
        table.add_row(name, *_judge(name, trial))
    console.print(table)
    console.print(f"accepted connections can be carried: {_carries(try_carry())}", highlight=False)
    console.print()
    console.print(_features())
    console.print()
    for line in notes(migrates=choice is not None and choice.engine != "drain"):
        console.print(f"- {cell(line)}", highlight=False)
    if choice is None:
        return NotSupported.exit_code
    console.print()
    with Observer() as observer:
        addresses = [observer.serving(asked)] if asked else _listening(observer)
        _losses(console, observer, addresses)
    return 0


def _choose(console: Console) -> EngineChoice | None:
    """Say which engine would be used, or why none can be: None."""
    try:
        choice = choose()
    except NotSupported as error:
        console.print(f"segue run would [bold]not[/] start: {cell(str(error))}", highlight=False)
        return None
    console.print(f"segue run would use the engine [bold]{choice.engine}[/]")
    for reason in choice.reasons:
        console.print(f"  {cell(reason)}", style="dim", highlight=False)
    return choice


def _features() -> Table:
    """Which features the kernel has, with the reason for each answer."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("kernel feature", "here", "because"):
        table.add_column(heading)
    colours = {Answer.YES: "green", Answer.NO: "red", Answer.COULD_NOT_TELL: "yellow"}
    for name in FEATURES:
        found = ask(name)
        colour = colours[found.answer]
        table.add_row(name, f"[{colour}]{found.answer.value}[/]", cell(found.reason))
    return table


def _forbidden() -> str:
    kernel = KernelRelease.running()
    return (kernel and forbids_migration(kernel)) or ""


def _judge(name: str, trial: Experiment) -> tuple[str, str]:
    if trial.error:
        return "[red]no[/]", cell(trial.error)
    if not trial.migrated:
        return "[red]no[/]", "a queued connection was lost"
    if name == "drain":
        return "[green]yes[/]", "new connections go where they are steered"
    if not trial.woken:
        return (
            "[yellow]with a nudge[/]",
            "a queued connection migrated, but did not wake the listener it came to",
        )
    return "[green]yes[/]", f"a queued connection migrated and was served {trial.where}"


def _carries(trial: Experiment) -> str:
    if trial.error:
        return f"[red]no[/], {cell(trial.error)}"
    return (
        f"[green]yes[/], one went to another listener {trial.where}, and its client noticed nothing"
    )


def notes(*, migrates: bool) -> list[str]:
    """The settings of this host that matter here, in sentences."""
    said = [f"Linux {platform.release()}"]
    kernel = KernelRelease.running()
    if kernel and (known := wakes(kernel)):
        said.append(known)
    for name in (SYSCTL, "net.ipv4.tcp_syncookies", "net.core.somaxconn"):
        try:
            said.append(f"{name} = {sysctl.read(name)}")
        except SegueError as error:
            said.append(f"{name}: {error}")
    if not migrates and "net.ipv4.tcp_syncookies = 2" not in said:
        said.append(
            "without migration, net.ipv4.tcp_syncookies=2 would save half-open requests when a"
            " listener closes, at a price: clients without timestamps lose SACK and window scaling"
        )
    return said


def _listening(observer: Observer) -> list[Address]:
    found = {
        Address(entry.host, entry.port)
        for family in (2, 10)
        for entry in observer.diag.dump([State.LISTEN], family=family)
    }
    return sorted(found)


def _losses(console: Console, observer: Observer, addresses: list[Address]) -> None:
    if not addresses:
        console.print("no process listens here")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("address", no_wrap=True)
    table.add_column("who")
    for heading in ("listeners", "queued", "half-open", "drops", "lost if stopped"):
        table.add_column(heading, justify="right")
    for address in addresses:
        group = observer.snapshot(address, Part.REQUESTS)
        queued = sum(one.queue for one in group.listeners)
        drops = sum(one.drops for one in group.listeners)
        lost = queued + len(group.requests)
        table.add_row(
            cell(str(address)),
            cell(who(group)),
            str(len(group.listeners)),
            str(queued),
            str(len(group.requests)),
            str(drops),
            f"[red]{lost}[/]" if lost else "0",
        )
    console.print(table)
    console.print("Under segue run the next generation would serve them.", style="dim")


def who(group: Group) -> str:
    """The programs behind a group, with their pids as far as this user may see them."""
    owners = proc.owners({one.inode for one in group.listeners})
    programs: defaultdict[str, list[int]] = defaultdict(list)
    for pids in owners.values():
        for pid in pids:
            programs[proc.command(pid)].append(pid)
    if not group.listeners:
        return "no process listens"
    if not programs:
        return "another user's" if os.geteuid() else "not in this namespace"
    return ", ".join(
        f"{program} ({', '.join(map(str, sorted(set(pids))[:3]))})"
        for program, pids in sorted(programs.items())
    )
