"""``segue run`` in a control group made for it, as a service has one that is delegated to it.

Whoever measures enters the group too, with all that it starts: clients beside it would compete with
the group as a whole, and those of a service are mostly on another machine.
"""

from __future__ import annotations

import os

from bench.harness import Segue
from segue.linux import cgroup


class Grouped(Segue):
    """Its workers have groups of their own below."""

    def __init__(self, command: tuple[str, ...], port: int, *, workers: int, host: str) -> None:
        """Raises FileNotFoundError where no group can have the controller cpu."""
        self._before = cgroup.of(os.getpid(), "cpu") or cgroup.mine()
        self._group = f"{self._before}/segue-bench-{os.getpid()}"
        os.mkdir(self._group)
        try:
            os.stat(f"{self._group}/cpu.idle")
            _enter(self._group)
            more = ("--cgroup", self._group)
            super().__init__(
                [*command], port, engine="migrate", workers=workers, more=more, host=host
            )
        except BaseException:
            self._leave()
            raise

    def stop(self) -> None:
        """As in Segue, and the group is gone."""
        try:
            super().stop()
        finally:
            self._leave()

    def _leave(self) -> None:
        _enter(self._before)
        os.rmdir(self._group)


def _enter(group: str) -> None:
    door = cgroup.open_door(group)
    try:
        cgroup.enter(door)
    finally:
        os.close(door)
