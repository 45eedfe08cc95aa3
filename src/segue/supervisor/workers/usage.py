"""The memory of each worker with its child processes, looked at for less than 1/200 of a core.

It is the RSS that ps(1) and top(1) show, summed.  Processes that were forked from one share most of
their pages, and the sum counts these for each.  So where a worker has child processes and the sum
is above the limit, the PSS decides, if this user may see it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from segue.linux import memory
from segue.supervisor.allowance import Allowance
from segue.supervisor.workers.processes import Processes

_PART, _SAVED = 1 / 200, 0.1  # of a core; seconds of the processor that may be used at once


class Usage:
    """Looks at the memory of workers as often as it is asked and may."""

    def __init__(
        self,
        clock: Callable[[], float],
        spent: Callable[[], float] = time.thread_time,
        resident: Callable[[int], int] = memory.resident,
        proportional: Callable[[int], int | None] = memory.proportional,
    ) -> None:
        self._clock, self._spent = clock, spent
        self._resident, self._proportional = resident, proportional
        self._allowed = Allowance.full(_PART, _SAVED, clock())

    def look(self, processes: Processes, limits: dict[int, int]) -> dict[int, int]:
        """The bytes of every worker, by id; {} if looks have cost too much lately.

        ``limits`` has the bytes above which the sum is not enough, by worker.  Of a worker with
        more processes than one look reads, those that were read count.
        """
        now, spent = self._clock(), self._spent()
        if now < self._allowed.due:
            return {}
        trees, _ = processes.trees(limits.keys())
        found = {one: self._of(sorted(pids), limits[one]) for one, pids in trees.items()}
        self._allowed.spend(self._spent() - spent, self._clock())
        return found

    def _of(self, pids: Sequence[int], limit: int) -> int:
        total = sum(map(self._resident, pids))
        if total < limit or len(pids) < 2:
            return total
        parts = [self._proportional(pid) for pid in pids]
        return total if None in parts else sum(one or 0 for one in parts)
