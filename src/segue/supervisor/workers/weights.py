"""The weights with which workers compete for processors: those that start or stop have the lowest.

A newcomer has it until it is ready, and a worker without clients from when it is told to stop.  A
worker with a control group of its own has it by that (``workers/groups.py``).  Of another it is a
nice value: of the threads, and of the worker's session where the kernel groups threads by that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from segue.linux import niceness, proc
from segue.linux.niceness import LOWEST
from segue.linux.schedstat import Scheduled
from segue.supervisor.lifecycle.gentle import STARTING, STOPPING, Gentle, enough
from segue.supervisor.lifecycle.instance import Worker
from segue.supervisor.workers.groups import Groups
from segue.supervisor.workers.spawn import Lowest
from segue.supervisor.workers.ticks import Ticks

_PACE = 0.1  # between two looks at them
_COST = 50  # a look that takes long is made again after so many times that


@dataclass(slots=True)
class _Held:
    """A worker with the lowest weight."""

    number: str  # such as 2.3, its generation and its own
    pid: int
    doing: str  # STARTING or STOPPING
    threads: int | None  # the nice value that its threads get back; None if they have it
    session: int | None  # the same of its session
    grouped: bool  # its control group is idle
    account: Gentle


class Weights:
    """Which workers have the lowest weight, and whether each can get its own back."""

    def __init__(self, limit: float, stop_timeout: float, groups: Groups) -> None:
        """``limit`` in seconds: for how long at most.  With 0 nobody gets the lowest weight.

        A worker that stops gets its own back after half of ``stop_timeout``, since it is killed
        after the whole.
        """
        self._limits = {STARTING: limit, STOPPING: min(limit, stop_timeout / 2)}
        self.groups = groups
        self._held: dict[int, _Held] = {}  # by worker
        self._back: dict[int, _Held] = {}  # those that could not be given back at once
        self.due: float | None = None  # when to look again; None if nobody is held
        self._processors = len(os.sched_getaffinity(0))
        self.ticks: Ticks | None = None

    @cached_property
    def _returns(self) -> bool:
        return niceness.can_return()

    def newcomer(self) -> Lowest:
        """The nice values that a newcomer is to begin with: as far as it can be taken back."""
        own = niceness.of(os.getpid())
        if not self._limits[STARTING] or own is None:
            return Lowest()
        # The kernel lets everybody take a session back to 0 (proc_sched_autogroup_set_nice).
        return Lowest(threads=own < LOWEST and self._returns, session=True)

    def leave(self, worker: Worker, pid: int, now: float) -> None:
        """This worker is about to be told to stop, and has no clients."""
        if not self._limits[STOPPING]:
            return
        if self.groups.set_idle(worker.id, idle=True):
            self.follow(worker, pid, now, STOPPING)
            return
        lowest, own = self.newcomer(), niceness.of(os.getpid())
        if own is None:
            return
        if lowest.threads:
            for each in proc.tree(pid):
                niceness.change(each, own, LOWEST)
        # A value that somebody chose for it is left alone.
        if lowest.session and niceness.of_session(pid) == 0:
            niceness.change_session(pid, LOWEST)
        self.follow(worker, pid, now, STOPPING)

    def follow(self, worker: Worker, pid: int, now: float, doing: str = STARTING) -> None:
        """A process of ours or of an earlier supervisor: it may have the lowest since ``now``."""
        own = niceness.of(os.getpid())
        number, idle = f"{worker.generation}.{worker.id}", self.groups.idle(worker.id)
        held = _Held(number, pid, doing, None, None, idle, Gentle.begin(now))
        if own is not None and own < LOWEST == niceness.of(pid):
            held.threads = own
        if niceness.of_session(pid) == LOWEST:
            held.session = 0
        if held.grouped or held.threads is not None or held.session is not None:
            self._held[worker.id] = held
            self.due = now + _PACE if self.due is None else self.due
            self._tick()

    def look(self, now: float, spent: Callable[[], float] = time.thread_time) -> str:
        """Whether those that start, or those that stop, have to wait too long.

        Then all of these get their own weight back.  The sentence to say, or "".  ``spent`` is
        processor time: where processors are wanted most, a cheap look may take seconds.
        """
        if self.due is None or now < self.due:
            return ""
        begun = spent()
        self._return()
        for held in self._held.values():
            held.account = held.account.look(now, _threads(held.pid))
        said = "; ".join(filter(None, map(self._judge, (STARTING, STOPPING))))
        after = now + max(_PACE, _COST * (spent() - begun))
        # Never later than the first limit.
        ends = [it.account.since + self._limits[it.doing] for it in self._held.values()]
        self.due = min([after, *ends]) if self._held or self._back else None
        return said

    def _judge(self, doing: str) -> str:
        these = {key: held for key, held in self._held.items() if held.doing == doing}
        accounts = [held.account for held in these.values()]
        why = enough(accounts, self._processors, self._limits[doing], doing)
        if not why:
            return ""
        for worker in these:
            self.release(worker)
        who = ", ".join(held.number for held in these.values())
        what = "new workers" if doing == STARTING else "workers that stop"
        return f"{what} compete for processors from now on (worker {who}): {why}"

    def release(self, worker: int) -> None:
        """This worker gets its own weight back, with all its processes."""
        held = self._held.pop(worker, None)
        if held is not None:
            if held.grouped:
                self.groups.set_idle(worker, idle=False)
            self._back[worker] = held
            self._return()
            self._tick()

    def forget(self, worker: int) -> None:
        """This worker has ended."""
        self._held.pop(worker, None)
        self._back.pop(worker, None)
        self.groups.remove(worker)
        self._tick()

    def _tick(self) -> None:
        if self.ticks is not None:
            self.ticks.go(wanted=bool(self._held))

    def _return(self) -> None:
        """Give back what could not be given back before."""
        self._back = {key: held for key, held in self._back.items() if not _returned(held)}


def _returned(held: _Held) -> bool:
    if held.session is not None and niceness.change_session(held.pid, held.session):
        held.session = None
    known: set[int] = set()
    # Again for those that a process started before it was its turn.
    while held.threads is not None and (new := set(proc.tree(held.pid)) - known):
        known |= new
        for pid in new:
            niceness.change(pid, LOWEST, held.threads)
    held.threads = None  # who may not be changed now may not be later
    return held.session is None


def _threads(pid: int) -> Mapping[int, Scheduled]:
    return {key: one for each in proc.tree(pid) for key, one in proc.scheduling(each).items()}
