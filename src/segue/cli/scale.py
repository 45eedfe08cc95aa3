"""``segue scale``: another number of workers."""

from __future__ import annotations

import click

from segue.cli.shared.instance import instance_options, request
from segue.cli.shared.telling import tell
from segue.supervisor.control.requests import Scale


@click.command()
@instance_options
@click.argument("workers", type=int)
def scale(name: str, control: str, workers: int) -> int:
    """Change the number of workers to WORKERS.

    Workers that are no longer needed finish their connections before they stop.
    """
    answer = request(name, control, Scale(workers))
    if answer["exit"] == 0:
        tell(f"{answer['workers']} worker(s)")
    return int(answer["exit"])
