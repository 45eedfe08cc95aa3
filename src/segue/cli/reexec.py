"""``segue reexec``: the supervisor's own new code."""

from __future__ import annotations

import click

from segue.cli.shared.instance import instance_options, request
from segue.supervisor.control.requests import Reexec


@click.command()
@instance_options
def reexec(name: str, control: str) -> int:
    """Replace the supervisor with the installed version.

    The workers keep running. segue.toml is read again.
    """
    return int(request(name, control, Reexec())["exit"])
