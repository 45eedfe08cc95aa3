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
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from segue.linux import pidfd, proc
from segue.supervisor.workers.processes import Process, end_leftovers
from segue.worker import VARIABLE

_PACE = 0.02
_COST = 10  # looks at many processes take long; they may use a tenth of the time
_GIVE_UP = 5.0  # seconds after SIGKILL: we may lack the right, or it waits for a device
_STRAYS = 0  # no leader has this number


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


class Leftovers:
    """The leftovers, looked at in intervals.  A process that cannot be ended is given up."""

    def __init__(self, now: Callable[[], float], say: Callable[[str], None]) -> None:
        self._now, self._say = now, say
        # By the leader of a dead worker's session: the worker's flag, the time at which its
        # leftovers are killed, and its leftovers at the last look with their start times.
        self._left: dict[int, tuple[str, float, dict[int, int]]] = {}
        # Children of the program that became us by exec(2), such as a shell.
        self._bystanders = frozenset(proc.children_born(os.getpid()).items())
        self._due = 0.0

    @property
    def due(self) -> float | None:
        """When to look next; None while nothing is left."""
        return self._due if self._left else None

    def begin(
        self, leader: int, flag: str, number: int, limit: float, processes: Iterable[Process]
    ) -> dict[int, int]:
        """Signal the processes that an ended worker left running, and return them.

        Those that still run at ``limit`` are killed.
        """
        left = end_leftovers(leader, flag, number)
        if left:
            self._left[leader] = flag, limit, left
        others = {
            pid: born for pid, born in self._strays(processes).items() if left.get(pid) != born
        }
        for pid, born in others.items():
            pidfd.signal_same(pid, born, number)
        if others:
            self._left[_STRAYS] = "", limit, others
        return left | others

    def step(self, processes: Iterable[Process]) -> None:
        """Look, if a look is due, and kill the leftovers whose time is over."""
        begun = self._now()
        if not self._left or begun < self._due:
            return
        for leader, (flag, limit, before) in list(self._left.items()):
            number = signal.SIGKILL if begun >= limit else 0
            if leader == _STRAYS:
                left = self._strays(processes)
                for pid, born in left.items() if number else ():
                    pidfd.signal_same(pid, born, number)
            else:
                left = end_leftovers(leader, flag, number, before)
            if left and begun < limit + _GIVE_UP:
                self._left[leader] = flag, limit, left
                continue
            del self._left[leader]
            if left:
                self._say(f"{proc.describe(sorted(left))} cannot be ended and is left running")
                self._bystanders |= left.items()
        self._due = begun + max(_PACE, _COST * (self._now() - begun))

    def _strays(self, processes: Iterable[Process]) -> dict[int, int]:
        running = list(processes)
        if os.getpid() == 1:
            # Every orphan of the container becomes our child, and ends when we end.
            return {}
        living = {one.flag: one.worker.start_ticks for one in running}
        known = {(one.child.pid, one.worker.start_ticks) for one in running} | self._bystanders
        orphans = {
            pid: Orphan(born, _flag(pid))
            for pid, born in proc.children_born(os.getpid()).items()
            if (pid, born) not in known
        }
        return strays(orphans, living, known)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a successor in this process."""
        return {
            "left": [
                [leader, flag, limit, list(left.items())]
                for leader, (flag, limit, left) in self._left.items()
            ],
            "bystanders": list(self._bystanders),
        }

    def adopt(self, plain: Any) -> None:
        """Continue with the state of a predecessor in this process.

        The state of another version is not used: every present child then counts as known.
        """
        if isinstance(plain, dict):
            self._left = {
                leader: (flag, limit, dict(left)) for leader, flag, limit, left in plain["left"]
            }
            self._bystanders = frozenset((pid, born) for pid, born in plain["bystanders"])


def _flag(pid: int) -> str:
    mark = f"{VARIABLE}=".encode()
    found = (one for one in proc.environment(pid) if one.startswith(mark))
    return os.fsdecode(next(found, b"").removeprefix(mark))
