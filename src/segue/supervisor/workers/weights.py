"""The weights with which workers compete for processors: newcomers get the lowest until ready.

The weight is a nice value: of the threads, and of the worker's session where the kernel groups
threads by that.  A control group would do the same only where one is delegated, and no better.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from segue.linux import niceness, proc
from segue.linux.niceness import LOWEST
from segue.linux.schedstat import Scheduled
from segue.supervisor.lifecycle.gentle import Gentle, enough
from segue.supervisor.workers.spawn import Lowest

_PACE = 0.1  # between two looks at newcomers
_COST = 50  # a look that takes long is made again after so many times that


@dataclass(slots=True)
class _Held:
    """A newcomer with the lowest weight."""

    pid: int
    threads: int | None  # the nice value that its threads get back; None if they have it
    session: int | None  # the same of its session
    account: Gentle


class Weights:
    """Which newcomers have the lowest weight, and whether each can get its own back."""

    def __init__(self, limit: float) -> None:
        """``limit`` in seconds: for how long at most.  With 0 nobody gets the lowest weight."""
        self._limit = limit
        self._held: dict[int, _Held] = {}  # by worker
        self._back: dict[int, _Held] = {}  # those that could not be given back at once
        self.due: float | None = None  # when to look again; None if nobody is held
        self._processors = len(os.sched_getaffinity(0))

    @cached_property
    def _returns(self) -> bool:
        return niceness.can_return()

    def newcomer(self) -> Lowest:
        """What a newcomer is to begin with: as far as it can be taken back."""
        own = niceness.of(os.getpid())
        if not self._limit or own is None:
            return Lowest()
        # The kernel lets everybody take a session back to 0 (proc_sched_autogroup_set_nice).
        return Lowest(threads=own < LOWEST and self._returns, session=True)

    def follow(self, worker: int, pid: int, now: float) -> None:
        """A process that starts, of ours or of an earlier supervisor: it may have the lowest."""
        own = niceness.of(os.getpid())
        held = _Held(pid, None, None, Gentle.begin(now))
        if own is not None and own < LOWEST == niceness.of(pid):
            held.threads = own
        if niceness.of_session(pid) == LOWEST:
            held.session = 0
        if held.threads is not None or held.session is not None:
            self._held[worker] = held
            self.due = now + _PACE if self.due is None else self.due

    def look(self, now: float, clock: Callable[[], float]) -> str:
        """Whether newcomers have to wait too long: then all get their own weight back.

        The sentence to say, or "".
        """
        if self.due is None or now < self.due:
            return ""
        self._return()
        for held in self._held.values():
            held.account = held.account.look(now, _threads(held.pid))
        why = enough([one.account for one in self._held.values()], self._processors, self._limit)
        names = list(self._held)
        if why:
            for worker in names:
                self.release(worker)
        self.due = now + max(_PACE, _COST * (clock() - now)) if self._held or self._back else None
        if not why:
            return ""
        who = ", ".join(map(str, names))
        return f"newcomers compete for processors from now on (worker {who}): {why}"

    def release(self, worker: int) -> None:
        """This worker is ready: it gets its own weight back, with all its processes."""
        held = self._held.pop(worker, None)
        if held is not None:
            self._back[worker] = held
            self._return()

    def forget(self, worker: int) -> None:
        """This worker has ended."""
        self._held.pop(worker, None)
        self._back.pop(worker, None)

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
