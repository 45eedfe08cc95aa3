"""Deaths for want of memory: newcomers first, and named.

A restart doubles what the service needs for a moment.  If that is too much, the kernel is to end
newcomers, which have no clients, instead of workers that serve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from segue.linux import oom


@dataclass(slots=True)
class _Count:
    """What one file counted at the last two looks."""

    before: int
    last: int


class Kills:
    """Tells whether a worker that was killed was killed for want of memory.

    A kill is counted when the signal is sent, and a large process ends some time later: so the
    count is compared with that of the look before the last one.  Looks are a second apart.
    """

    def __init__(
        self,
        counter: Callable[[int], str] = oom.counter,
        kills: Callable[[str], int] = oom.kills,
    ) -> None:
        self._counter, self._kills = counter, kills
        self._paths: dict[int, str] = {}  # by worker
        self._counts: dict[str, _Count] = {}

    def follow(self, worker: int, pid: int) -> None:
        """A worker's process runs."""
        path = self._counter(pid)
        if path:
            self._paths[worker] = path
            if path not in self._counts:
                now = self._kills(path)
                self._counts[path] = _Count(now, now)

    def look(self) -> None:
        """Note what is counted now, and forget files that no worker is counted in."""
        self._counts = {
            path: _Count(self._counts[path].last, self._kills(path))
            for path in set(self._paths.values())
        }

    def claim(self, worker: int) -> str:
        """The words for a worker that was killed just now; "" when nothing was counted.

        Each counted kill explains one death.
        """
        path = self._paths.get(worker)
        if path is None:
            return ""
        count = self._counts[path]
        if self._kills(path) <= count.before:
            return ""
        count.before += 1
        count.last = max(count.last, count.before)
        change = f"oom_kill {count.before - 1} -> {count.before}"
        return f", probably for want of memory ({change})"

    def forget(self, worker: int) -> None:
        """This worker has ended."""
        self._paths.pop(worker, None)
