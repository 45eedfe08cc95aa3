"""``backlog-zero``: listen(2) with a backlog of 0, accept for a guard time, close.

David Laight proposed it when migration was first posted, and Eric Dumazet had said in 2015 why it
does not work: the last ACK of a request from before finds no room (sk_acceptq_is_full) and is
dropped.  A backlog of 0 has room for one, so SYNs come still, to wait for that.
"""

from __future__ import annotations

from segue.lab.ways.leaving import GUARD_S, Leaving, Steps, Way


def _steps(leaving: Leaving) -> Steps:
    leaving.set_backlog(0)
    # Not until the queue is empty, which was the other proposal: it often is, at once.
    yield GUARD_S
    leaving.close()


WAY = Way("backlog-zero", "set the backlog to 0, accept for a second, close", _steps)
