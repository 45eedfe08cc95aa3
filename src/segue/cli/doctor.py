"""``segue doctor``: which engine works here, found by trying, and what a restart now would lose."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from segue.address import Address
from segue.cli.shared.console import output_console
from segue.cli.shared.progress import progress
from segue.cli.shared.telling import cell, tell_json
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
from segue.linux.features import FEATURES, ask
from segue.linux.sock_diag import State
from segue.observe.snapshot import Observer, Part
from segue.supervisor.lifecycle.giving_way import AUTO
from segue.supervisor.workers.groups import choose as choose_means

_COLOURS = {"yes": "green", "no": "red", "with a nudge": "yellow", "could not tell": "yellow"}


@click.command()
@click.argument("address", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def doctor(address: str | None, *, as_json: bool) -> int:
    """Try each engine, and report what a restart would lose now.

    Engines are tried on a private port.  Looks at ADDRESS, or without one at every listener.  The
    exit code is 1 where no engine works.
    """
    asked = Address.parse(address) if address else None
    with progress("trying the engines"):
        found = look(asked)
    if as_json:
        tell_json(found, indent=2)
    else:
        # Into a file or a pipe, rich would fold everything to 80 columns.
        _show(found, output_console())
    return NotSupported.exit_code if found["engine"] is None else 0


def look(asked: Address | None) -> dict[str, Any]:
    """What is found here, as plain values."""
    choice, refused = _choose()
    forbidden = _forbidden()
    attempts = (("migrate", try_migrate), ("hash", try_hash), ("drain", try_drain))
    trials = {
        name: Experiment(error=forbidden) if forbidden and name != "drain" else attempt()
        for name, attempt in attempts
    }
    listeners = None
    if choice is not None:
        with Observer() as observer:
            addresses = [observer.serving(asked)] if asked else _listening(observer)
            listeners = [_losses(observer, one) for one in addresses]
    return {
        "engine": choice.engine if choice else None,
        "reasons": list(choice.reasons) if choice else [refused],
        "engines": [{"name": name, **_judge(name, trial)} for name, trial in trials.items()],
        "carry": _carries(try_carry()),
        "features": [
            {"name": name, "here": ask(name).answer.value, "because": ask(name).reason}
            for name in FEATURES
        ],
        "newcomers": str(choose_means(AUTO, "segue.doctor")),
        "notes": notes(migrates=choice is not None and choice.engine != "drain"),
        "listeners": listeners,
    }


def _show(found: dict[str, Any], console: Console) -> None:
    if found["engine"] is None:
        why = cell(found["reasons"][0])
        console.print(f"segue run would [bold]not[/] start: {why}", highlight=False)
    else:
        console.print(f"segue run would use the engine [bold]{found['engine']}[/]")
        for reason in found["reasons"]:
            console.print(f"  {cell(reason)}", style="dim", highlight=False)
    console.print()
    console.print(_table(("engine", "works", "because"), found["engines"]))
    carry = found["carry"]
    console.print(
        f"accepted connections can be carried: {_coloured(carry['works'])},"
        f" {cell(carry['because'])}",
        highlight=False,
    )
    console.print()
    console.print(_table(("kernel feature", "here", "because"), found["features"]))
    console.print()
    console.print(
        f"new workers would leave processors to those that serve, {cell(found['newcomers'])}",
        highlight=False,
    )
    for line in found["notes"]:
        console.print(f"- {cell(line)}", highlight=False)
    if found["listeners"] is None:
        return
    console.print()
    _show_losses(found["listeners"], console)


def _table(headings: tuple[str, ...], rows: list[dict[str, str]]) -> Table:
    """Of rows with a name, an answer and a reason."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        table.add_column(heading)
    for row in rows:
        name, answer, because = row.values()
        table.add_row(name, _coloured(answer), cell(because))
    return table


def _coloured(answer: str) -> str:
    return f"[{_COLOURS[answer]}]{answer}[/]"


def _choose() -> tuple[EngineChoice | None, str]:
    """Which engine would be used, or why none can be."""
    try:
        return choose(), ""
    except NotSupported as error:
        return None, str(error)


def _forbidden() -> str:
    kernel = KernelRelease.running()
    return (kernel and forbids_migration(kernel)) or ""


def _judge(name: str, trial: Experiment) -> dict[str, str]:
    if trial.error:
        return _answer("no", trial.error)
    if not trial.migrated:
        return _answer("no", "a queued connection was lost")
    if name == "drain":
        return _answer("yes", "new connections go where they are steered")
    if not trial.woken:
        return _answer(
            "with a nudge",
            "a queued connection migrated, but did not wake the listener it came to",
        )
    return _answer("yes", f"a queued connection migrated and was served {trial.where}")


def _carries(trial: Experiment) -> dict[str, str]:
    if trial.error:
        return _answer("no", trial.error)
    return _answer(
        "yes", f"one went to another listener {trial.where}, and its client noticed nothing"
    )


def _answer(works: str, because: str) -> dict[str, str]:
    return {"works": works, "because": because}


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


def _losses(observer: Observer, address: Address) -> dict[str, Any]:
    """What a restart of the server at this address would lose at this moment."""
    group = observer.snapshot(address, Part.REQUESTS)
    queued = sum(one.queue for one in group.listeners)
    return {
        "address": str(address),
        "who": who(group),
        "listeners": len(group.listeners),
        "queued": queued,
        "half_open": len(group.requests),
        "drops": sum(one.drops for one in group.listeners),
        "lost_if_stopped": queued + len(group.requests),
    }


def _show_losses(listeners: list[dict[str, Any]], console: Console) -> None:
    if not listeners:
        console.print("no process listens here")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("address", no_wrap=True)
    table.add_column("who")
    for heading in ("listeners", "queued", "half-open", "drops", "lost if stopped"):
        table.add_column(heading, justify="right")
    for one in listeners:
        address, program, *numbers, lost = one.values()
        last = f"[red]{lost}[/]" if lost else "0"
        table.add_row(cell(address), cell(program), *map(str, numbers), last)
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
