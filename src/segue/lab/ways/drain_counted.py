"""``drain-counted``: SYNs are counted in the kernel; once as many were accepted, close.

The second workaround of the series' cover letter.  The count is that of the policy ``shares``,
which is written in the policy language and is asked about SYNs alone here.  A client that never
ends its handshake is counted for ever, so that the limit decides.
"""

from __future__ import annotations

from segue.lab.ways.leaving import Leaving, Steering, Steps, Way, until


def _steps(leaving: Leaving) -> Steps:
    leaving.steer_away()
    yield from until(leaving, lambda: leaving.accepted() >= leaving.selected())
    leaving.close()


WAY = Way(
    "drain-counted",
    "count SYNs and accepts, steer SYNs away, accept up to the count, close",
    _steps,
    privilege="CAP_BPF",
    kernel="5.8",
    steering=Steering.COUNTING,
)
