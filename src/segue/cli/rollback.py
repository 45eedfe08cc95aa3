"""``segue rollback``: new connections go back to the previous generation."""

from __future__ import annotations

import click

from segue.cli.shared.instance import instance_options, request
from segue.cli.shared.telling import tell
from segue.supervisor.control.requests import Rollback


@click.command()
@instance_options
def rollback(name: str, control: str) -> int:
    """Give all new connections to the previous generation again.

    If the new generation is still starting, its workers are stopped. In a restart in steps, each
    one that serves already is stopped when an old worker has been started again in its place.
    """
    answer = request(name, control, Rollback())
    if answer["exit"] == 0:
        tell(answer.get("left") or f"generation {answer['generation']} serves")
    return int(answer["exit"])
