"""Programs that start beside servers and give way to these, by means of the kernel alone.

Nothing of Segue starts them.  So what they still cost the servers is what no way of restarting can
avoid by scheduling.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from enum import Enum

from segue.linux import cgroup, niceness
from segue.supervisor.workers.ticks import Ticks


class Giving(Enum):
    """How programs give way; the value is their row's name."""

    NOT = "programs start"
    NICE = "programs start, nice 19"  # with the process that has the kernel choose anew
    IDLE = "programs start, cpu.idle"  # in a group that gets what nobody else wants


class Way:
    """One way to give way; ``close`` undoes it.  Raises OSError where there is none here."""

    def __init__(self, giving: Giving) -> None:
        self._giving = giving
        self._group = _make_idle() if giving is Giving.IDLE else ""
        self._ticks = Ticks(lambda _: None)

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        """Some of them start in this block."""
        self._ticks.go(wanted=self._giving is Giving.NICE)
        try:
            yield
        finally:
            self._ticks.go(wanted=False)

    def lower(self, program: subprocess.Popen[bytes]) -> None:
        """It has a session of its own, and has just been executed."""
        if self._giving is Giving.NICE:
            os.setpriority(os.PRIO_PROCESS, program.pid, niceness.LOWEST)
            niceness.change_session(program.pid, niceness.LOWEST)
        elif self._giving is Giving.IDLE:
            _put(self._group, program.pid)

    def end(self, program: subprocess.Popen[bytes], seconds: float) -> None:
        """Wait so long for its end, then kill it: beside busy processors it might never come."""
        try:
            program.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            if self._group:
                _put(os.path.dirname(self._group), program.pid)  # or its death would take as long
            program.kill()
            program.wait()

    def close(self) -> None:
        """Twice is no error."""
        self._ticks.close()
        group, self._group = self._group, ""
        if group:
            os.rmdir(group)


def _put(group: str, pid: int) -> None:
    with contextlib.suppress(ProcessLookupError), open(f"{group}/cgroup.procs", "w") as file:
        file.write(str(pid))


def _make_idle() -> str:
    """At the root, beside everybody: of version 1, or of version 2 where that has processors."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = file.read()
    root = cgroup.find(mounts, "0::/\n1:cpu:/", "cpu") or cgroup.find(mounts, "0::/")
    if root is None:
        raise FileNotFoundError("no control groups are mounted")
    group = f"{root}/segue-bench-{os.getpid()}"
    os.mkdir(group)
    try:
        with open(f"{group}/cpu.idle", "w") as file:
            file.write("1")
    except OSError:
        os.rmdir(group)
        raise
    return group
