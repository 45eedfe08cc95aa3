"""``carry``: as ``migrate-policy``, and the accepted connections go to the successors too."""

from __future__ import annotations

from segue.lab.ways.leaving import Leaving, Steering, Steps, Way, until


def _steps(leaving: Leaving) -> Steps:
    leaving.steer_away()
    leaving.close()
    yield from until(leaving, lambda: not leaving.carry())


WAY = Way(
    "carry",
    "as migrate-policy, and carry what was accepted",
    _steps,
    privilege="CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW",
    kernel="6.9",
    steering=Steering.MIGRATING,
    carries=True,
)
