"""``segue rescue``: move connections away from a listener that stalls."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import click

from segue.address import Address
from segue.cli.shared.group import group_options
from segue.cli.shared.telling import tell
from segue.errors import SegueError, UsageError
from segue.observe.stall import PATIENCE

if TYPE_CHECKING:
    from segue.supervisor.control.instances import Running
    from segue.supervisor.control.requests import Rescue


@click.command()
@group_options
@click.option(
    "--after", default=PATIENCE, metavar="TIME", show_default=True,
    help="Treat a listener as stalled if it accepts nothing for TIME while others could.",
)  # fmt: skip
def rescue(address: str, after: str, **given: Any) -> int:
    """Move connections away from listeners at ADDRESS that stall.

    Connections that wait behind a stalled listener move to the other listeners. The command stays
    in the foreground until SIGTERM or SIGINT, and then leaves the listeners as it found them. If
    segue attach runs for ADDRESS, that instance does the work.
    """
    from segue.supervisor.attach.settings import AttachSettings  # noqa: PLC0415
    from segue.supervisor.attach.start import attend  # noqa: PLC0415
    from segue.supervisor.control.instances import own  # noqa: PLC0415
    from segue.supervisor.control.requests import Rescue  # noqa: PLC0415

    settings = AttachSettings(Address.parse(address), rescue=after, passing=True, **given)
    if not settings.rescue_after:
        raise UsageError("--after must be a time such as 50ms or 1s (got off)")
    running = own(settings.instance_name)
    if running is not None:
        return _ask_for_rescue(running, Rescue(after, str(settings.address)))
    return attend(settings)


def _ask_for_rescue(running: Running, request: Rescue) -> int:
    """Let the running instance rescue until we are told to end.  It ends when we hang up."""
    from segue.supervisor.control.client import ask, status  # noqa: PLC0415

    if status(running).command:
        raise UsageError(
            f"{request.address} is served by segue run ({running.name}): use its option --rescue"
        )
    # SIGINT too: a shell that starts a job in the background has it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        answer = ask(running, request, lambda text: tell(f"segue: {text}", err=True))
    except KeyboardInterrupt:
        return 0
    raise SegueError(str(answer.get("error", f"{running.name} has ended, and the rescue with it")))
