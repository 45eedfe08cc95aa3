"""What a thread has done with its time: /proc/PID/task/TID/schedstat and its state (proc(5)).

Pure: ``segue.linux.proc`` reads the files.
"""

from __future__ import annotations

from typing import NamedTuple


class Scheduled(NamedTuple):
    """A thread's time so far, in nanoseconds (Documentation/scheduler/sched-stats.rst).

    ``ran`` is brought up to date at each tick, ``waited`` only when the thread gets a processor.
    """

    ran: int
    waited: int  # for a processor, with something to do
    runnable: bool  # it runs, or waits for a processor


def parse(schedstat: bytes, state: bytes) -> Scheduled | None:
    """None where a file was empty: the thread is gone, or CONFIG_SCHED_INFO is not there."""
    times = schedstat.split()
    if not times or not state:
        return None
    return Scheduled(int(times[0]), int(times[1]), state == b"R")
