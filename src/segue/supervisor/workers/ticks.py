"""Has each processor choose anew every half millisecond, while workers of the lowest weight run.

Since Linux 6.6 a thread that wakes is not eligible while it has had more than its share, if only by
a tenth of a millisecond.  Then the thread that runs goes on, whatever its weight is, and the kernel
chooses again at its next tick (entity_eligible in kernel/sched/fair.c): after up to 4 ms, with 250
ticks a second.  A thread that wakes up there has it choose at once.

An idle control group is no exception.  Who wakes takes the processor from it at once.  But where
two threads have shared a processor, and one goes to sleep, the other may have had more than its
share: then the kernel chooses the idle group, until its next tick.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from segue.engine.defects import KernelRelease
from segue.linux.closing import Closing
from segue.supervisor.workers import ticking

_SINCE = (6, 6)
# Where there are more, one of them is idle for whoever wakes.  Each costs 3 % of itself.
_MOST_PROCESSORS = 8


class Ticks(Closing):
    """A process that does it, from when it is first wanted.  It ends with us, however we end."""

    def __init__(self, started: Callable[[int], None]) -> None:
        """``started`` is called with the pid, since it is a child of ours that is no worker's."""
        self._started = started
        kernel = KernelRelease.running()
        few = len(os.sched_getaffinity(0)) <= _MOST_PROCESSORS
        self._useful = few and kernel is not None and kernel.version >= _SINCE
        self._process: subprocess.Popen[bytes] | None = None
        self._going = False

    def go(self, *, wanted: bool) -> None:
        """From now on, or no longer.  Where no process can be had, it is tried again next time."""
        if wanted == self._going or not self._useful:
            return
        with contextlib.suppress(OSError):
            if self._process is None:
                self._process = self._start()
            try:
                self._say(ticking.GO if wanted else ticking.REST)
                self._going = wanted
            except BrokenPipeError:  # somebody has ended it
                self.close()

    def close(self) -> None:
        """End the process; twice is no error."""
        process, self._process, self._going = self._process, None, False
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(ticking.__file__))],
            cwd="/",
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._started(process.pid)
        return process

    def _say(self, word: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(word)
