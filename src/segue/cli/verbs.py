"""The verbs of a running instance: each sends one request and says what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from segue.cli.telling import tell
from segue.errors import UsageError
from segue.supervisor.control.client import ask, find
from segue.supervisor.control.requests import (
    Promote,
    Reexec,
    Request,
    Restart,
    Rollback,
    Scale,
    Shift,
    Stop,
    Weights,
)

Command = TypeVar("Command", bound=Callable[..., Any])
_WEIGHT = re.compile(r"(?:worker)?(?:[0-9]+\.)?([0-9]{1,9})=([0-9]+(?:\.[0-9]+)?)")


def instance_options(command: Command) -> Command:
    """--name and --control, which pick the instance."""
    named = click.option("--name", default="", envvar="SEGUE_NAME", help="Which instance.")
    at = click.option("--control", default="", metavar="SOCKET", help="Its control socket.")
    return named(at(command))


def request(name: str, control: str, order: Request) -> dict[str, Any]:
    """Ask, show progress on stderr and an error if there is one; the last answer."""
    answer = ask(find(name, control), order, lambda text: tell(f"  {text}", err=True))
    if answer.get("error"):
        tell(f"segue: {answer['error']}", err=True)
    return answer


@click.command()
@instance_options
@click.option(
    "--canary", type=float, metavar="PERCENT", help="Give newcomers only this part until promoted."
)
@click.option("--keep", type=float, metavar="SECONDS", help="Keep the old ones for a rollback.")
@click.option("--now", is_flag=True, help="Move what waits in old listeners at once.")
@click.option("--cut", is_flag=True, help="End connections that old workers have accepted, too.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is over.  [default: wait]")
def restart(
    name: str,
    control: str,
    *,
    canary: float | None,
    keep: float | None,
    now: bool,
    cut: bool,
    wait: bool,
) -> int:
    """Start new workers, give them the new connections, and let the old ones finish.

    Exits with 3, and changes nothing for clients, when the new ones do not become ready.
    """
    answer = request(name, control, Restart(canary, keep, now, cut, wait))
    if answer["exit"] == 0:
        tell(f"generation {answer['generation']} {_came(answer, wait=wait)}")
    return int(answer["exit"])


def _came(answer: dict[str, Any], *, wait: bool) -> str:
    if not wait:
        return "is starting"
    if answer["percent"] < 100:
        return f"gets {answer['percent']:g} % of new connections; now segue promote, or rollback"
    return "serves"


@click.command()
@instance_options
def rollback(name: str, control: str) -> int:
    """Give new connections back to the previous generation, or give up the newcomers."""
    answer = request(name, control, Rollback())
    if answer["exit"] == 0:
        tell(f"generation {answer['generation']} serves")
    return int(answer["exit"])


@click.command()
@instance_options
def promote(name: str, control: str) -> int:
    """Give a canary all new connections."""
    answer = request(name, control, Promote())
    if answer["exit"] == 0:
        tell(f"generation {answer['generation']} serves")
    return int(answer["exit"])


@click.command()
@instance_options
@click.argument("percent", type=float)
def shift(name: str, control: str, percent: float) -> int:
    """Give the newest generation PERCENT of new connections: 100 promotes it, 0 takes all back."""
    answer = request(name, control, Shift(percent))
    if answer["exit"] == 0:
        got = f"{answer['percent']:g} %" if "percent" in answer else "all"
        tell(f"generation {answer['generation']} gets {got} of new connections")
    return int(answer["exit"])


@click.command()
@instance_options
@click.argument("weight", nargs=-1, required=True, metavar="WORKER=WEIGHT...")
def weights(name: str, control: str, weight: tuple[str, ...]) -> int:
    """Give a worker so many times the share of its siblings: worker3=0.5, and worker3=1 again.

    Workers are numbered as segue status shows them; in place of worker3 also 3 or 2.3.
    """
    given: dict[int, float] = {}
    for text in weight:
        found = _WEIGHT.fullmatch(text)
        if found is None:
            raise UsageError(f"{text!r} is not a weight; write one such as worker3=0.5")
        given[int(found[1])] = float(found[2])
    return int(request(name, control, Weights(given))["exit"])


@click.command()
@instance_options
@click.argument("workers", type=int)
def scale(name: str, control: str, workers: int) -> int:
    """Run so many WORKERS from now on; those too many drain first."""
    answer = request(name, control, Scale(workers))
    if answer["exit"] == 0:
        tell(f"{answer['workers']} worker(s)")
    return int(answer["exit"])


@click.command()
@instance_options
@click.option("--fast", is_flag=True, help="Kill the workers instead of letting them finish.")
def stop(name: str, control: str, *, fast: bool) -> int:
    """Let the workers finish, and end the instance."""
    return int(request(name, control, Stop(fast))["exit"])


@click.command()
@instance_options
def reexec(name: str, control: str) -> int:
    """Replace the supervisor's own code by what is installed now; workers notice nothing."""
    return int(request(name, control, Reexec())["exit"])
