"""Processes that ended workers left behind, followed until they have ended too.

There are three kinds.  A shell that is told to stop leaves its server running: the server still has
the shell's session.  A server that made itself a daemon has a session of its own.  As its nearest
subreaper we became its parent, and its environment names the worker.  A daemon that also cleared
its environment is a *stray*: a child of ours that is not a worker and that no living worker can
have left behind.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from segue.linux import pidfd, proc
from segue.supervisor.workers.processes import Process, find_leftovers, flag_of

_PACE = 0.02
_COST = 10  # looks at many processes take long; they may use a tenth of the time
_GIVE_UP = 5.0  # seconds after SIGKILL: we may lack the right, or it waits for a device
_STRAYS = 0  # no leader has this number
_NAMED = 3  # as many as proc.describe names


@dataclass(frozen=True, slots=True)
class Orphan:
    """A child of ours: its start time, and the worker that its environment names."""

    born: int
    flag: str = ""


def strays(
    orphans: Mapping[int, Orphan], living: Mapping[str, int], known: Collection[tuple[int, int]]
) -> dict[int, int]:
    """The orphans that no living worker can have left behind; each with its start time.

    ``living`` has the start times of the living workers by their flags.  ``known`` has the workers,
    and the processes that existed before us.  An orphan whose environment names no worker may come
    from any worker that was started before it.
    """
    found = {}
    for pid, one in orphans.items():
        if (pid, one.born) in known or one.flag in living:
            continue
        if one.flag or not any(born <= one.born for born in living.values()):
            found[pid] = one.born
    return found


@dataclass(frozen=True, slots=True)
class Left:
    """What one ended worker left, while it is being ended."""

    flag: str  # the worker's
    limit: float  # when they are killed
    processes: dict[int, int]  # at the last look, with their start times
    number: int = 0  # the signal that asks them to end, and their time after it in seconds
    patience: float = 0.0
    spared: frozenset[tuple[int, int]] = frozenset()  # those that have not been asked yet
    told: int = 0  # how often others that were found later were said
    killed: bool = False


class Leftovers:
    """The leftovers, looked at in intervals.  A process that cannot be ended is given up."""

    def __init__(
        self,
        now: Callable[[], float],
        say: Callable[[str], None],
        spared: Callable[[], Mapping[int, int]],
    ) -> None:
        self._now, self._say = now, say
        # Processes that wait for an answer of ours, and those that wait for them.  They are asked
        # to end once they have it.
        self._spared = spared
        self._left: dict[int, Left] = {}  # by the leader of the dead worker's session
        # Those that are left alone: children of the program that became us by exec(2), such as a
        # shell; what is kept; what cannot be ended.
        self._bystanders = frozenset(proc.children_born(os.getpid()).items())
        self._due = 0.0

    @property
    def due(self) -> float | None:
        """When to look next; None while nothing is left."""
        return self._due if self._left else None

    def spare(self, pid: int) -> None:
        """This child of ours is no worker's."""
        born = proc.start_time(pid)
        if born is not None:
            self._bystanders |= {(pid, born)}

    @property
    def _followed(self) -> set[tuple[int, int]]:
        return {each for one in self._left.values() for each in one.processes.items()}

    def none(self, processes: Iterable[Process]) -> bool:
        """True if a worker that was our child, and has ended just now, left nothing running.

        What it left is below a child of ours, since we are its nearest subreaper.  So it is enough
        to know every child, and not every process of the host has to be looked at.
        """
        # The pid of a process that has not ended is no other's, so nothing is read of the workers.
        ours = {one.child.pid for one in processes if not pidfd.ended(one.child.pidfd)}
        return proc.children_born(os.getpid(), ours).items() <= self._bystanders

    def keep(self, leader: int, flag: str, processes: Iterable[Process]) -> str:
        """Leave the processes alone that an ended worker left running; which, in words."""
        found = find_leftovers(leader, flag) | self._strays(processes)
        alive = {one for one in self._bystanders if proc.start_time(one[0]) == one[1]}
        self._bystanders = frozenset(alive | found.items())
        return described(found)

    def end(
        self, leader: int, flag: str, number: int, limit: float, processes: Iterable[Process]
    ) -> str:
        """Signal the processes that an ended worker left running; which, in words.

        Those that still run at ``limit`` are killed.
        """
        left, spared = find_leftovers(leader, flag), self._spared().items()
        patience = limit - self._now()
        if left:
            waiting = frozenset(left.items() & spared)
            self._left[leader] = Left(flag, limit, left, number, patience, waiting)
        # Those that are followed already are other workers'.
        others = dict(self._strays(processes).items() - left.items() - self._followed)
        if others:
            before = self._left.get(_STRAYS)
            every = others | (before.processes if before else {})
            waiting = frozenset(every.items() & spared)
            self._left[_STRAYS] = Left("", limit, every, number, patience, waiting)
        everyone = left | others
        said = described(everyone)
        _signal(everyone.items() - spared, number)
        return said

    def step(
        self, processes: Iterable[Process], spent: Callable[[], float] = time.thread_time
    ) -> None:
        """Look, if a look is due, and kill the leftovers whose time is over.

        ``spent`` is processor time.
        """
        begun, before_it = self._now(), spent()
        if not self._left or begun < self._due:
            return
        for leader, before in list(self._left.items()):
            if leader == _STRAYS:
                left = self._strays(processes)
            else:
                left = find_leftovers(leader, before.flag, before.processes)
            one = self._asked(before, left, begun) if begun < before.limit else before
            over = begun >= one.limit
            if over and left:
                if not one.killed:
                    self._say(f"{described(left)} did not end in time: killed")
                _signal(left.items(), signal.SIGKILL)
            if left and begun < one.limit + _GIVE_UP:
                self._left[leader] = replace(one, processes=left, killed=over)
                continue
            del self._left[leader]
            if left:
                self._say(f"{described(left)} cannot be ended and is left running")
                self._bystanders |= left.items()
        self._due = begun + max(_PACE, _COST * (spent() - before_it))

    def _asked(self, one: Left, left: dict[int, int], now: float) -> Left:
        """Those that are found now, and those that have had their answer, are asked to end.

        A process is found once it is a child of ours: when the one that has started it has ended.
        The time begins with the last answer.
        """
        found = left.items() - one.processes.items()
        if not found and not one.spared:
            return one
        asked = (one.spared | found) & left.items()
        still = frozenset(asked & self._spared().items())
        told = one.told
        if found and told < _NAMED:  # a script that ignores us may start one after the other
            told += 1
            self._say(f"also left running: {described(dict(found))}: told to stop")
        _signal(asked - still, one.number)
        limit = now + one.patience if one.spared else one.limit
        return replace(one, spared=still, limit=limit, told=told)

    def _strays(self, processes: Iterable[Process]) -> dict[int, int]:
        running = list(processes)
        if os.getpid() == 1:
            # Every orphan of the container becomes our child, and ends when we end.
            return {}
        living = {one.flag: one.worker.start_ticks for one in running}
        known = {(one.child.pid, one.worker.start_ticks) for one in running} | self._bystanders
        orphans = {
            pid: Orphan(born, flag_of(pid))
            for pid, born in proc.children_born(os.getpid()).items()
            if (pid, born) not in known
        }
        return strays(orphans, living, known)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a successor in this process."""
        return {
            "left": [
                [
                    *(leader, one.flag, one.limit, list(one.processes.items())),
                    *(one.number, one.patience, list(one.spared), one.told),
                ]
                for leader, one in self._left.items()
            ],
            "bystanders": list(self._bystanders),
        }

    def adopt(self, plain: Any) -> None:
        """Continue with the state of a predecessor in this process.

        The state of another version is not used: every present child then counts as known.
        """
        if isinstance(plain, dict):
            self._left = {
                leader: Left(flag, limit, dict(left), *_spared(*more))
                for leader, flag, limit, left, *more in plain["left"]
            }
            self._bystanders = frozenset((pid, born) for pid, born in plain["bystanders"])


def described(processes: Mapping[int, int]) -> str:
    """These processes, for a sentence: three of them by name."""
    more = len(processes) - _NAMED
    return proc.describe(sorted(processes)) + (f" and {more} more" if more > 0 else "")


def _spared(
    number: int = 0, patience: float = 0.0, spared: Iterable[tuple[int, int]] = (), told: int = 0
) -> tuple[int, float, frozenset[tuple[int, int]], int]:
    """These fields, which an earlier version did not write."""
    return number, patience, frozenset((pid, born) for pid, born in spared), told


def _signal(processes: Iterable[tuple[int, int]], number: int) -> None:
    for pid, born in processes:
        pidfd.signal_same(pid, born, number)
