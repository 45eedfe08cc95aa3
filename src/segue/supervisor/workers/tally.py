"""How many of each worker's connections are in use, and one that shows that it is not quiet.

Pure, and in one pass: there may be many thousand connections and dozens of workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from segue.group import Connection


@dataclass(slots=True)
class Tally:
    """One worker's accepted connections at one front.

    ``witness`` is the one of those in use that will be for longest, as far as can be known: one
    with an answer owed, else the one on which something moved last.
    """

    untouched: int = 0
    busy: int = 0
    idle: int = 0
    witness: Connection | None = None


def seconds_in_use(connection: Connection, grace: float) -> float:
    """How long it is in use yet if nothing moves on it; infinity while an answer is owed or bytes
    are in flight, 0 once it has been idle for the grace.
    """
    idle = connection.idle_ms
    return math.inf if idle is None else max(0.0, grace - idle / 1000)


def tally(
    connections: Iterable[Connection], workers: Mapping[int, int], grace: float
) -> dict[int, Tally]:
    """By worker; ``workers`` has the worker that holds each inode."""
    found = {worker: Tally() for worker in workers.values()}
    longest: dict[int, float] = {}
    for connection in connections:
        worker = workers.get(connection.inode)
        if worker is None:
            continue
        its, left = found[worker], seconds_in_use(connection, grace)
        its.untouched += connection.untouched
        if not left:
            its.idle += 1
            continue
        its.busy += 1
        if left > longest.get(worker, 0.0):
            longest[worker], its.witness = left, connection
    return found
