"""``segue shift``: the newest generation gets another part of new connections."""

from __future__ import annotations

import click

from segue.cli.shared.instance import instance_options, request
from segue.cli.shared.telling import tell
from segue.supervisor.control.requests import Shift


@click.command()
@instance_options
@click.argument("percent", type=float)
def shift(name: str, control: str, percent: float) -> int:
    """Give the newest generation PERCENT of new connections.

    100 promotes it. 0 gives all new connections back to the older generation.
    """
    answer = request(name, control, Shift(percent))
    if answer["exit"] == 0:
        got = f"{answer['percent']:g} %" if "percent" in answer else "all"
        tell(f"generation {answer['generation']} gets {got} of new connections")
    return int(answer["exit"])
