"""Which processes accept from a listener that somebody else opened."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from segue.group import Listener
from segue.linux import proc


def accepting(listeners: Iterable[Listener]) -> dict[int, tuple[int, ...]]:
    """By cookie: of several owners those that watch it by epoll, if any do; else all.

    Every worker of nginx has the listeners of all its siblings, and so has the one that forked it.
    """
    listeners = list(listeners)
    several = {pid for one in listeners if len(one.owners) > 1 for pid in one.owners}
    watched = {}
    for pid in several:
        polled = proc.polled(pid)
        watched[pid] = {inode for inode, fd in proc.sockets(pid).items() if fd in polled}
    found = {}
    for one in listeners:
        watching = [pid for pid in one.owners if one.inode in watched.get(pid, ())]
        found[one.cookie] = tuple(watching) or one.owners
    return found


def youngest(pids: Sequence[int]) -> tuple[int, float]:
    """The process that was started last, and when in seconds since boot."""
    ages = [(proc.start_seconds(pid) or 0.0, pid) for pid in pids]
    started, pid = max(ages, default=(time.clock_gettime(time.CLOCK_BOOTTIME), 0))
    return pid, started
