"""``handoff``: what is queued is accepted, and each socket passed to a successor (SCM_RIGHTS)."""

from __future__ import annotations

from segue.lab.ways.leaving import Leaving, Steps, Way


def _steps(leaving: Leaving) -> Steps:
    leaving.hand_over()
    leaving.close()
    yield from ()


WAY = Way(
    "handoff",
    "accept what is queued, pass the sockets to the successors, close",
    _steps,
    privilege="none, but a unix socket and both servers' help",
)
