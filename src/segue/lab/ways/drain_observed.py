"""``drain-observed``: SYNs go elsewhere; sock_diag says when the requests from before are gone.

A request does not name its listener (FACTS, inode), so those of the whole group are remembered,
by cookie: one that is the successors' is waited for too, which takes no longer.
"""

from __future__ import annotations

from segue.lab.ways.leaving import Leaving, Steering, Steps, Way, until


def _steps(leaving: Leaving) -> Steps:
    leaving.steer_away()
    before = leaving.half_open()
    yield from until(leaving, lambda: not before & leaving.half_open() and not leaving.queued())
    leaving.close()


WAY = Way(
    "drain-observed",
    "steer SYNs away, watch the half-open requests from before, accept, close",
    _steps,
    kernel="4.6",
    steering=Steering.CLASSIC,
)
