"""``cookies``: no half-open requests at all, by SYN cookies, and ``handoff`` for the queue.

A listener that sends cookies keeps nothing of a handshake, so that its last ACK may come to any
other (FACTS, cookies).  It is the best that a kernel without migration can do.
"""

from __future__ import annotations

from segue.lab.ways.leaving import Leaving, Steps, Way


def _steps(leaving: Leaving) -> Steps:
    leaving.hand_over()
    leaving.close()
    yield from ()


WAY = Way(
    "cookies",
    "set net.ipv4.tcp_syncookies to 2, and then as handoff",
    _steps,
    privilege="CAP_NET_ADMIN, once; and as handoff",
    sysctls={"net.ipv4.tcp_syncookies": "2"},
)
