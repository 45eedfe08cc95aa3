"""A worker is killed, and what it had accepted is counted: that goes with it, nothing else may."""

from __future__ import annotations

import os
import signal

from bench.harness import wait_until
from segue.address import Address
from segue.linux import proc
from segue.linux.sock_diag import State
from segue.observe.snapshot import Observer, Part

_STOPS_S = 5.0


def kill(pid: int, where: Address, observer: Observer) -> int:
    """SIGKILL; how many connections it had accepted and not closed, as after an answer.

    It is stopped for the count, so that what is counted is what dies with it.
    """
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: proc.threads_stopped(pid), _STOPS_S, "a stopped worker")
        own = proc.sockets(pid)
        full = observer.snapshot(where, Part.CONNECTIONS).connections
        return sum(one.inode in own and one.state == State.ESTABLISHED for one in full)
    finally:
        os.kill(pid, signal.SIGKILL)
