"""Processes that wait for an answer of ours, and that we could end ourselves before they have it.

A worker may order its own restart: a request handler runs ``segue restart`` and waits for it.  The
caller is then a process of a worker that the restart is going to end.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from segue.linux import proc
from segue.supervisor.lifecycle.instance import Worker
from segue.supervisor.workers.processes import Processes, flag_of


@dataclass(frozen=True, slots=True)
class Caller:
    """A client's process, known by its start time, and the living worker that it belongs to."""

    pid: int
    born: int
    worker: Worker | None = field(compare=False)

    @classmethod
    def of(cls, pid: int, processes: Processes) -> Caller | None:
        """Who asks; None if the process is gone, or not to be seen from here.

        It belongs to the worker in whose tree it is, or which its environment names: a process that
        made itself a daemon is in no tree.
        """
        born = proc.start_time(pid) if pid else None
        if born is None:
            return None
        process = processes.of_process(pid)
        if process is None:
            flag = flag_of(pid)
            process = next((one for one in processes if one.flag == flag), None)
        return cls(pid, born, process.worker if process else None)

    @property
    def alive(self) -> bool:
        """It has not ended."""
        return proc.start_time(self.pid) == self.born

    def line(self) -> dict[int, int]:
        """The caller and its parents, up to the leader of its session, with their start times."""
        found: dict[int, int] = {}
        leader = proc.session_of(self.pid)
        for pid in proc.line_above(self.pid):
            born = proc.start_time(pid)
            if born is not None and pid != os.getpid():
                found[pid] = born
            if pid in {leader, os.getpid()}:
                break
        return found
