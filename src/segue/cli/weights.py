"""``segue weights``: how much a worker gets beside its siblings."""

from __future__ import annotations

import re

import click

from segue.cli.shared.instance import instance_options, request
from segue.cli.shared.telling import tell
from segue.errors import UsageError
from segue.supervisor.control.requests import Weights

_WEIGHT = re.compile(r"(?:worker)?(?:[0-9]+\.)?([0-9]{1,9})=([0-9]+(?:\.[0-9]+)?)")


@click.command()
@instance_options
@click.argument("weight", nargs=-1, required=True, metavar="WORKER=WEIGHT...")
def weights(name: str, control: str, weight: tuple[str, ...]) -> int:
    """Set a worker's weight relative to its siblings.

    worker3=0.5 halves its share, worker3=1 restores it. Use the numbers that segue status shows:
    worker3, 3 and 2.3 all name worker 3 of generation 2.
    """
    given: dict[int, float] = {}
    for text in weight:
        found = _WEIGHT.fullmatch(text)
        if found is None:
            raise UsageError(f"{text!r} is not a weight; write for example worker3=0.5")
        given[int(found[1])] = float(found[2])
    answer = request(name, control, Weights(given))
    if answer["exit"] == 0:
        for worker, times in given.items():
            tell(f"worker{worker} gets {times:g} times the share of a sibling")
    return int(answer["exit"])
