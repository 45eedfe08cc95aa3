"""A forecast for people: what was assumed, a row for each way, and the advice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segue.plan.advice import advise, assumed, seconds
from segue.plan.simulate import LOST, Forecast
from segue.plan.ways import WAYS
from segue.visible import visible


def show(
    found: Forecast, restarts_per_day: float, notes: Sequence[str], took: float, console: Console
) -> None:
    """Draw the load, a row for each way, and the advice."""
    for line in assumed(found.study.load):
        console.print(line, highlight=False, style="dim")
    console.print()
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("way")
    for heading in (
        "half-open", "queued", "accepted", "lost, 95 of 100", "a day", "connect again", "listener",
        "old version",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    advice = advise(found, restarts_per_day)
    for way in WAYS:
        lost = found.figure(way.name, LOST)
        parts = [
            count(found.figure(way.name, f"lost_{one}").mean)
            for one in ("half_open", "queued", "accepted")
        ]
        table.add_row(
            f"[bold]{way.name}[/]" if way.name == advice.way else way.name,
            *parts,
            f"{count(lost.mean)} ({lost.low:,.0f} to {lost.high:,.0f})",
            count(lost.mean * restarts_per_day),
            count(found.figure(way.name, "reconnected").mean),
            seconds(found.figure(way.name, "listener_gone_s").mean),
            seconds(found.figure(way.name, "configuration_gone_s").mean),
        )
    console.print(table)
    console.print()
    console.print(f"[bold]{advice.way}[/]: {advice.reason}", highlight=False)
    for line in (*advice.more, *notes):
        console.print(line, highlight=False)
    console.print(
        f"{found.study.restarts:,} restarts and {found.simulated:,} connections were simulated in"
        f" {seconds(took)}.",
        highlight=False,
        style="dim",
    )


# A table of more is no table: --json has all.
_ROWS = 50
# One of each kind: without care, without privilege, with migration, and with all.
COMPARED = ("close", "drain-observed", "migrate-policy", "carry")


def show_sweep(results: Sequence[Mapping[str, Any]], console: Console) -> None:
    """A row for each configuration: what a day of all its machines loses, by some of the ways."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("service")
    table.add_column("figures")
    for name in COMPARED:
        table.add_column(name, justify="right")
    table.add_column("drained after", justify="right")
    for one in results[:_ROWS]:
        ways = one["ways"]
        differ = differing([other for other in results if other["service"] == one["service"]])
        figures = ", ".join(f"{name} {one['figures'][name]}" for name in differ)
        table.add_row(
            escape(visible(one["service"])),
            escape(visible(figures)),
            *(count(ways[name]["lost_per_day"]) for name in COMPARED),
            seconds(ways["drain-observed"]["listener_gone_s"]),
        )
    console.print(table)
    if len(results) > _ROWS:
        console.print(f"and {len(results) - _ROWS:,} more: --json has all", style="dim")
    total = ", ".join(
        f"{name} {count(sum(one['ways'][name]['lost_per_day'] for one in results))}"
        for name in COMPARED
    )
    console.print(f"Lost a day, by each of these ways. All together: {total}.", highlight=False)


def differing(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The figures that are not the same in all of them."""
    first = results[0]["figures"]
    return [name for name in first if any(one["figures"][name] != first[name] for one in results)]


def count(value: float) -> str:
    """Such as "0", "0.41" or "1,234"."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}"
