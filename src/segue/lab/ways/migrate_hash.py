"""``migrate-hash``: the kernel moves what waits, to whom its own hash says."""

from __future__ import annotations

from segue.lab.ways.leaving import Leaving, Steps, Way


def _steps(leaving: Leaving) -> Steps:
    leaving.close()
    yield from ()


WAY = Way(
    "migrate-hash",
    "set net.ipv4.tcp_migrate_req, close the listener",
    _steps,
    privilege="CAP_NET_ADMIN, once",
    kernel="5.14",
    sysctls={"net.ipv4.tcp_migrate_req": "1"},
)
