"""``segue stop``: the workers finish, and the instance ends."""

from __future__ import annotations

import click

from segue.cli.shared.instance import instance_options, request
from segue.supervisor.control.requests import Stop


@click.command()
@instance_options
@click.option("--fast", is_flag=True, help="Kill the workers instead of letting them finish.")
def stop(name: str, control: str, *, fast: bool) -> int:
    """Let the workers finish, then end the instance."""
    return int(request(name, control, Stop(fast))["exit"])
