"""``segue promote``: a canary gets all new connections."""

from __future__ import annotations

import click

from segue.cli.shared.instance import instance_options, request
from segue.cli.shared.telling import tell
from segue.supervisor.control.requests import Promote


@click.command()
@instance_options
def promote(name: str, control: str) -> int:
    """Give the canary all new connections."""
    answer = request(name, control, Promote())
    if answer["exit"] == 0:
        tell(f"generation {answer['generation']} serves")
    return int(answer["exit"])
