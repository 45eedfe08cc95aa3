"""A running instance, from the outside: the options that name it, and one request to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from segue.cli.shared.progress import progress
from segue.cli.shared.telling import tell
from segue.supervisor.control.client import ask, find
from segue.supervisor.control.instances import Running, instances
from segue.supervisor.control.requests import Request

Command = TypeVar("Command", bound=Callable[..., Any])


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001  click's signature
    """The instances that run, for a shell that completes."""
    return sorted({one.name for one in instances() if one.name.startswith(incomplete)})


def instance_options(command: Command) -> Command:
    """--name and --control, which pick the instance."""
    named = click.option(
        "--name",
        default="",
        envvar="SEGUE_NAME",
        shell_complete=_names,
        help="The name of the instance.  [default: the only one that runs]",
    )
    at = click.option(
        "--control", default="", metavar="SOCKET", help="The instance's control socket."
    )
    return named(at(command))


def found(name: str, control: str) -> Running:
    """The instance that these options pick.  Whose it is is told if it is not this user's."""
    one = find(name, control)
    if one.where:
        tell(f"segue: this is {one.where}", err=True)
    return one


def request(name: str, control: str, order: Request) -> dict[str, Any]:
    """Send one request and return the last answer.

    Progress is shown on stderr, and so is the error, if there is one.
    """
    to = found(name, control)
    with progress(f"waiting for {to.name or to.control}"):
        answer = ask(to, order, lambda text: tell(f"  {text}", err=True))
    if answer.get("error"):
        tell(f"segue: {answer['error']}", err=True)
    return answer
