"""``segue audit``: what differs between the listeners of a group, and which differences matter."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from segue.address import Address
from segue.cli.shared.console import output_console
from segue.cli.shared.netns import netns_option
from segue.cli.shared.progress import progress
from segue.cli.shared.telling import cell, tell_json
from segue.engine.audit import Level, Mismatch, OptionSource, Value
from segue.engine.examination import Examination, examine
from segue.group import Listener
from segue.linux import netns as namespaces
from segue.linux import proc
from segue.observe.snapshot import Observer

_REQUEST = {
    OptionSource.TARGET: "a queued child keeps its old listener's, a half-open request gets its new"
    " one's",
    OptionSource.SOURCE: "a queued child and a half-open request both keep their old listener's",
    OptionSource.NEITHER: "",
}
_COLOURS = {Level.REFUSE: "red", Level.WARN: "yellow", Level.FINE: "dim"}


@click.command(
    epilog="Exit codes: 0 if nothing that matters differs; 1 if a difference is refused or warned"
    " of, or a listener could not be inspected; 2 for wrong usage, or if no process listens there."
)
@click.argument("address")
@click.option(
    "--allow",
    default="",
    metavar="NAME[,NAME]",
    help="Ignore differences in these options, such as TCP_NODELAY,BACKLOG.  [default: none]",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@netns_option
def audit(address: str, allow: str, netns: str, *, as_json: bool) -> int:
    """Compare the socket options of the listeners at ADDRESS.

    A difference is refused if it keeps the listeners from being one group, or if it can break
    connections that migrate.  It is warned of if those connections behave differently afterwards.
    Nothing is changed.
    """
    asked = Address.parse(address)
    allowed = [name.strip() for name in allow.split(",") if name.strip()]
    with progress("comparing"), namespaces.visited(netns), Observer() as observer:
        found = examine(observer, asked, allowed)
    if as_json:
        tell_json(as_plain(asked, found), indent=2)
    else:
        show(asked, found, output_console())
    return 1 if found.matters else 0


def as_plain(address: Address, found: Examination) -> dict[str, Any]:
    """The same for programs: listeners and findings by cookie."""
    return {
        "address": str(address),
        "matters": found.matters,
        "listeners": [
            {
                **asdict(one),
                "address": str(one.address),
                "commands": [proc.command(pid) for pid in one.owners],
            }
            for one in found.listeners
        ],
        "findings": [
            {
                "name": one.name,
                "level": one.level.name.lower(),
                "allowed": one.allowed,
                "matters": one.matters,
                "request": one.request.value or None,
                "effect": one.effect,
                "values": [
                    {"value": value, "cookies": list(cookies)} for value, cookies in one.holders
                ],
            }
            for one in found.findings
        ],
    }


def show(address: Address, found: Examination, console: Console) -> None:
    """Draw the listeners, numbered, and under them what differs."""
    number = {one.cookie: place for place, one in enumerate(found.listeners, 1)}
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("listener", "at", "whose"):
        table.add_column(heading)
    table.add_column("backlog", justify="right")
    for one in found.listeners:
        table.add_row(
            f"#{number[one.cookie]}", cell(str(one.address)), cell(_whose(one)),
            str(one.backlog),
        )  # fmt: skip
    console.print(table)
    console.print()
    for finding in found.findings:
        _tell(finding, number, console)
    if not found.matters:
        alone = len(found.listeners) == 1
        console.print(
            f"{cell(str(address))}: "
            + ("there is one listener, and nothing to compare it with" if alone
               else "nothing differs that matters"),
            highlight=False,
        )  # fmt: skip


def _tell(finding: Mismatch, number: dict[int, int], console: Console) -> None:
    word = "allowed" if finding.allowed else finding.level.value
    values = ", ".join(
        f"{_text(value)} ({' '.join(f'#{number[one]}' for one in cookies)})"
        for value, cookies in finding.holders
    )
    console.print(
        f"[{_COLOURS[finding.level]}]{word}[/]: [bold]{finding.name}[/] is {cell(values)}",
        highlight=False,
    )
    request = _REQUEST[finding.request]
    effect = f"{request}: {finding.effect}" if request else finding.effect
    console.print(f"  {cell(effect)}", highlight=False, style="dim")


def _text(value: Value) -> str:
    return repr(value) if value == "" else str(value)


def _whose(listener: Listener) -> str:
    pids = listener.owners
    named = ", ".join(f"{proc.command(pid)} ({pid})" for pid in pids[:3])
    return f"{named} and {len(pids) - 3} more" if len(pids) > 3 else named
