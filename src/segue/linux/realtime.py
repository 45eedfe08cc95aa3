"""The calling thread before everything else that wants the processor, for a moment (sched(7))."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

# Those under which a thread waits its turn behind others.
_FAIR = frozenset({os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE})


@contextlib.contextmanager
def urgent() -> Iterator[bool]:
    """Inside the block this thread, and those that it starts there, have real-time priority.

    Only those that others have set to a higher one go before it.  Yields whether that is so: False
    without CAP_SYS_NICE or a limit that allows it (RLIMIT_RTPRIO), or where its control group has
    no real-time share.  The block must be short: whoever shares the processor waits for its end.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    if policy & ~os.SCHED_RESET_ON_FORK not in _FAIR:
        yield True
        return
    try:
        least = os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO))
        os.sched_setscheduler(0, os.SCHED_FIFO, least)
    except PermissionError:
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, policy, parameters)
