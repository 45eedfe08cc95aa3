"""``inherit``: the successors accept from the very same listeners, which are never closed."""

from __future__ import annotations

from segue.lab.ways.leaving import Leaving, Steps, Way


def _steps(leaving: Leaving) -> Steps:
    leaving.give()
    yield from ()


WAY = Way(
    "inherit",
    "pass the listening sockets themselves to the successors",
    _steps,
    privilege="none, but a parent or a socket in common",
    inherits=True,
)
