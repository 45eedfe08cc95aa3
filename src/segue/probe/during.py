"""The command that runs while the load does: a restart, usually.

It runs in a thread beside the load, which must not wait for it.  Never through a shell, and never
without an end: past its limit its whole process group is told to stop, then killed.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from segue.errors import UsageError
from segue.visible import visible

# What the end of its output may be: enough for a sentence, not for a log.
TAIL = 4096
# Between SIGTERM and SIGKILL, and at least as long as a service manager needs to tidy up.
MERCY_S = 5.0


@dataclass(frozen=True, slots=True)
class Command:
    """What came of it.  Times are in seconds after the run began.

    ``begin_s`` is None when the run was over before its time came; ``exit`` is None when it could
    not be started, and -n when signal n ended it.
    """

    text: str
    begin_s: float | None = None
    end_s: float | None = None
    exit: int | None = None
    trouble: str = ""
    output: str = ""

    @property
    def failed(self) -> bool:
        """It did not do what was asked."""
        return self.exit != 0

    @property
    def sentence(self) -> str:
        """How it ended, for a reader."""
        if self.trouble:
            return f"the command {self.trouble}: {visible(self.text)}"
        if self.exit == 0:
            return f"the command exited with 0: {visible(self.text)}"
        how = f"exited with {self.exit}" if (self.exit or 0) > 0 else _by_signal(self.exit or 0)
        last = visible(self.output.strip().rpartition("\n")[2][-200:])
        ended = f"the command {how}: {visible(self.text)}"
        return ended + (f"; its last words: {last}" if last else "")


def _by_signal(code: int) -> str:
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def words(text: str) -> list[str]:
    """The command as a list, by the shell's rules of quoting.  Raises UsageError."""
    try:
        found = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"the command {text!r} cannot be split: {error}") from None
    if not found:
        raise UsageError("the command to run during the load is empty")
    return found


class During:
    """Begins ``after_s`` after ``start``; its end is waited for by ``join``."""

    def __init__(self, text: str, *, after_s: float, limit_s: float) -> None:
        if not (0 <= after_s < 1e6 and 0 < limit_s < 1e6):
            raise UsageError(
                f"a command must start after 0 or more seconds (got {after_s}), and its time limit"
                f" must be above 0 s (got {limit_s})"
            )
        self.text, self.after_s, self.limit_s = text, after_s, limit_s
        self._words = words(text)
        self._begun: float | None = None
        self._ended: float | None = None
        self._exit: int | None = None
        self._trouble = self._output = ""
        self._cancelled = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="during", daemon=True)

    def start(self) -> None:
        """The steady period begins now."""
        self._thread.start()

    def cancel(self) -> None:
        """Do not begin any more; a command that runs is left to finish."""
        self._cancelled.set()

    @property
    def state(self) -> str:
        """For a line of progress."""
        if self._begun is None:
            return "steady"
        return "over" if self._over.is_set() else "command runs"

    @property
    def over_at(self) -> float | None:
        """When it was over (monotonic), however it ended; None while it is not."""
        return self._ended if self._over.is_set() else None

    def join(self, origin: float) -> Command:
        """Wait for its end, which its limit bounds; times count from ``origin`` (monotonic)."""
        self._thread.join(self.after_s + self.limit_s + 2 * MERCY_S)
        begin = None if self._begun is None else self._begun - origin
        end = None if self._ended is None or begin is None else self._ended - origin
        trouble = self._trouble
        if begin is None and not trouble:
            trouble = "never began, as the load was over before its time came"
        return Command(self.text, begin, end, self._exit, trouble, self._output)

    def _run(self) -> None:
        if not self._cancelled.wait(self.after_s):
            with tempfile.TemporaryFile() as output:
                self._execute(output)
                self._output = _tail(output)
        self._over.set()

    def _execute(self, output: IO[bytes]) -> None:
        # A file, not a pipe: a daemon that the command starts would keep a pipe open for ever.
        self._begun = time.monotonic()
        try:
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self._trouble = f"could not be started ({error.strerror})"
            self._ended = time.monotonic()
            return
        try:
            self._exit = process.wait(self.limit_s)
        except subprocess.TimeoutExpired:
            self._exit = _end(process)
            self._trouble = f"was not over within {self.limit_s:g} s and was stopped"
        self._ended = time.monotonic()


def _end(process: subprocess.Popen[bytes]) -> int:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            return process.wait(MERCY_S)
    return -signal.SIGKILL


def _tail(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - TAIL))
    return output.read(TAIL).decode("utf-8", "replace")
