"""``segue watch``: instances on the screen, as they are."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click
from rich.console import Console

from segue.address import Address
from segue.cli.shared.console import output_console
from segue.cli.shared.instance import found, instance_options
from segue.cli.shared.instance_at import serves, status_of
from segue.cli.shared.telling import tell_json
from segue.errors import NotSupported, UsageError
from segue.probe.target import Target
from segue.supervisor.control.client import none_runs
from segue.supervisor.control.instances import Running, instances
from segue.watch.drawing import as_text, draw
from segue.watch.feed import Feed

_EXTRA = "tui"
_MANY = 1000  # lines, where nobody counts them
_LEAST, _MOST = 0.1, 60.0  # seconds between two looks


@click.command()
@instance_options
@click.option(
    "--every",
    default=0.5,
    show_default=True,
    type=float,
    metavar="SECONDS",
    help=f"Look this often at most, from {_LEAST:g} to {_MOST:g}.",
)
@click.option("--once", is_flag=True, help="Print one look, and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print one look as JSON, and exit.")
@click.argument("address", required=False)
def watch(
    name: str, control: str, every: float, address: str | None, *, once: bool, as_json: bool
) -> int:
    """Show instances as they are, with keys for orders.

    Without --name or ADDRESS, all that run here are shown.  Where the output is no terminal, one
    look is printed.  NO_COLOR is respected.
    """
    if not _LEAST <= every <= _MOST:  # NaN is not, which click's range takes
        raise UsageError(f"--every must be from {_LEAST:g} to {_MOST:g} seconds (got {every:g})")
    chosen = _chosen(name, control, address)
    if as_json:
        looks = [Feed(one).look()[0] for one in chosen]
        tell_json([asdict(one) for one in looks], indent=2)
        return 1 if any(one.error for one in looks) else 0
    if once or not sys.stdout.isatty():
        return _print(chosen)
    try:
        from segue.watch.screen import Watch  # noqa: PLC0415  an extra
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise NotSupported(
            "a screen", f"the extra {_EXTRA} (pip install 'segue[{_EXTRA}]')", "none (--once works)"
        ) from None
    Watch(chosen, every, ascii_only=_ascii_only()).run()
    return 0


def _chosen(name: str, control: str, address: str | None) -> list[Running]:
    if name or control:
        return [found(name, control)]
    running = [one for one in instances() if one.own] or instances()
    if address:
        target = Target(address, Address.parse(address))
        serving = [one for one in running if (its := status_of(one)) and serves(its, target)]
        if not serving:
            raise UsageError(f"no instance that runs here serves {target.address}")
        return serving
    if not running:
        raise none_runs()
    return running


def _print(chosen: list[Running]) -> int:
    console: Console = output_console()
    code = 0
    for number, one in enumerate(chosen):
        if number:
            console.print()
        sample, speeds = Feed(one).look()
        code = code or (1 if sample.status is None else 0)
        width = console.width if sys.stdout.isatty() else _MANY
        lines = draw(sample, speeds, width, _MANY, ascii_only=_ascii_only())
        console.print(as_text(lines), soft_wrap=True, highlight=False)
    return code


def _ascii_only() -> bool:
    return "utf" not in (sys.stdout.encoding or "").lower()
