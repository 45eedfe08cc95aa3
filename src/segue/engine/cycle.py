"""Move what waits at a listener to its siblings, and leave the listener listening.

A *cycle* is shutdown(2) and listen(2) from the supervisor's descriptor.  Between the two calls the
owner could see EPOLLHUP or EINVAL, and there are servers that stop listening for good when they do
(haproxy).  So the owner's processes are frozen around them.

Why frozen, and not out-run by real-time priority: SCHED_FIFO needs CAP_SYS_NICE, and on a second
core the owner runs in the window all the same; SIGSTOP needs the same user only, and an owner that
does not run sees nothing.  It pauses an old worker for about as long as a look at /proc takes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from segue.address import Address
from segue.errors import KernelError, UsageError
from segue.linux import proc
from segue.linux.sockopt import cookie
from segue.observe.snapshot import Observer

_FREEZE_SECONDS = 0.1  # a thread in the kernel stops at its next return; longer is no use
_LOOK_SECONDS = 0.0002


@dataclass(frozen=True, slots=True)
class CycleReport:
    """What was moved, and whether the owner could see it."""

    moved: int  # children that waited in the accept queue
    backlog: int
    frozen: bool
    window_us: float


def cycle(
    listener: socket.socket, owners: Collection[int], observer: Observer, address: Address
) -> CycleReport:
    """Shut down and listen again, with the same backlog; the queue goes to other members.

    ``owners`` are the processes to freeze meanwhile; they run again when this returns, whatever
    happens.  The caller puts the listener back into its table.  Raises UsageError, with nothing
    done, for the only listening member of a group, whose queue would be reset, and KernelError
    when the listener cannot listen again.
    """
    group = observer.snapshot(address)
    mine = group.by_cookie(cookie(listener))
    if mine is None:
        raise UsageError(f"the listener to cycle does not listen at {address}")
    if len(group.listeners) < 2:
        raise UsageError(
            f"the only listener at {address} cannot be cycled: what waits there would be reset"
        )
    with _frozen(owners) as frozen:
        before = time.perf_counter_ns()
        try:
            listener.shutdown(socket.SHUT_RDWR)
            # The backlog cannot be asked for once it has stopped listening, and listen() needs it.
            listener.listen(mine.backlog)
        except OSError as error:
            doing = f"cycling a listener at {address}"
            raise KernelError("listen", error.errno or 0, doing) from error
        window = (time.perf_counter_ns() - before) / 1000
    return CycleReport(mine.queue, mine.backlog, frozen, window)


@contextlib.contextmanager
def _frozen(pids: Collection[int]) -> Iterator[bool]:
    """Stopped processes inside the block; yields whether every one is."""
    stopped: list[int] = []
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
        limit = time.monotonic() + _FREEZE_SECONDS
        still = list(stopped)
        while still and time.monotonic() < limit:
            still = [pid for pid in still if not proc.threads_stopped(pid)]
            if still:
                time.sleep(_LOOK_SECONDS)
        yield not still and len(stopped) == len(pids)
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGCONT)
