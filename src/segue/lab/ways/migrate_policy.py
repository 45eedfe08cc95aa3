"""``migrate-policy``: the kernel moves what waits, and a policy says that a successor gets it."""

from __future__ import annotations

from segue.lab.ways.leaving import Leaving, Steering, Steps, Way


def _steps(leaving: Leaving) -> Steps:
    leaving.steer_away()
    leaving.close()
    yield from ()


WAY = Way(
    "migrate-policy",
    "steer SYNs and what migrates to the successors by a policy, close",
    _steps,
    privilege="CAP_BPF",
    kernel="5.14",
    steering=Steering.MIGRATING,
)
