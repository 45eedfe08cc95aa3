"""``drain``: SYNs go elsewhere for a fixed time, then what is queued is accepted.

The first workaround of the series' cover letter.  How long is a guess: EAGAIN says nothing of
requests whose last ACK is still under way.
"""

from __future__ import annotations

from segue.lab.ways.leaving import GUARD_S, Leaving, Steering, Steps, Way, until


def _steps(leaving: Leaving) -> Steps:
    leaving.steer_away()
    yield GUARD_S
    yield from until(leaving, lambda: not leaving.queued())
    leaving.close()


WAY = Way(
    "drain",
    "steer SYNs away, wait a second, accept until EAGAIN, close",
    _steps,
    kernel="4.6",
    steering=Steering.CLASSIC,
)
