"""``segue restart``: new workers beside the old ones, without losing a connection."""

from __future__ import annotations

from typing import Any

import click

from segue.cli.shared.instance import instance_options, request
from segue.cli.shared.telling import tell, tell_json
from segue.errors import UsageError
from segue.supervisor.control.requests import UNTIL, Restart


@click.command()
@instance_options
@click.option(
    "--canary",
    type=float,
    metavar="PERCENT",
    help="Give the new workers only PERCENT of the new connections until you promote them.",
)
@click.option(
    "--keep",
    type=float,
    metavar="SECONDS",
    help="Keep the old workers for SECONDS, so that a rollback is possible.",
)
@click.option(
    "--step",
    type=int,
    metavar="N",
    help="Replace N workers at a time: the next N start when the old ones of the step have ended."
    " 0 replaces all at once.  [default: by --restart-step of the instance]",
)
@click.option(
    "--now",
    is_flag=True,
    help="Move connections that wait in old listeners to the new workers at once.",
)
@click.option(
    "--cut", is_flag=True, help="Also close connections that the old workers have accepted."
)
@click.option(
    "--replace",
    is_flag=True,
    help="If another restart is at work, or a canary, give it up instead of waiting for it.",
)
@click.option(
    "--wait",
    "until",
    metavar=f"[{'|'.join(UNTIL)}]",
    is_flag=False,
    flag_value="",
    default="",
    help="Return when the new workers serve (serving), or when the old ones are gone too (drained)."
    "  [default: drained; with --keep or --canary, serving]",
)
@click.option("--no-wait", is_flag=True, help="Return at once.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def restart(
    name: str,
    control: str,
    *,
    canary: float | None,
    keep: float | None,
    step: int | None,
    now: bool,
    cut: bool,
    replace: bool,
    until: str,
    no_wait: bool,
    as_json: bool,
) -> int:
    """Replace all workers without losing a connection.

    New workers are started. Once they are ready, they get all new connections, and the old workers
    finish theirs. If the new workers do not become ready, nothing changes for clients and the exit
    code is 3. With --step, each new worker that serves already goes on until an old one has been
    started again in its place.

    If another restart is at work, this one waits until that is over. If a third is asked for
    meanwhile, it takes this one's place, and this one ends with exit code 4.
    """
    if until and no_wait:
        raise UsageError(f"--wait {until} and --no-wait contradict each other: leave one out")
    order = Restart(canary, keep, now, cut, not no_wait, until, replace, step)
    answer = request(name, control, order)
    if as_json:
        tell_json(answer, indent=2)
    elif answer["exit"] == 0:
        runs = f": {answer['runs']}" if answer.get("runs") else ""
        tell(f"generation {answer['generation']} {_came(answer, wait=not no_wait)}{runs}")
    return int(answer["exit"])


def _came(answer: dict[str, Any], *, wait: bool) -> str:
    if not wait:
        waits = answer.get("waits")
        return f"waits {waits}" if waits else "is starting"
    if answer["percent"] < 100:
        return (
            f"gets {answer['percent']:g} % of new connections; use segue promote or segue rollback"
            " next"
        )
    return "serves"
