"""What workers print: one stream, each line marked with who said it.

Each worker writes into a pipe that it also holds open for reading (its descriptor is O_RDWR).  So
when the supervisor dies, a worker that logs gets neither SIGPIPE nor EPIPE: up to a mebibyte waits
in the pipe, and the next supervisor takes the reading end from the worker and loses no line.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from segue.errors import KernelError
from segue.visible import as_json, paragraph, visible

_PIPE_BYTES = 1 << 20  # fs.pipe-max-size, what an ordinary user may ask for
_LAST_LINES = 20
_PATIENCE_MS = 200  # a reader that is only slow has read something by then
_IMPATIENT_SECONDS = 1.0  # after a line was dropped nobody is waited for so long
_LONGEST = 1 << 16  # bytes; a line without an end is cut here, so that memory is bounded
_READ = 1 << 16  # bytes at one event: others must have their turn beside a worker that floods
_REST = 2 * _PIPE_BYTES  # what a dead worker's children go on to write is not waited out


@dataclass(slots=True)
class Pipe:
    """The pipe of one worker; both descriptors are this object's until given away."""

    reader: int
    writer: int = -1
    label: str = ""
    fields: dict[str, int] = field(default_factory=dict)
    pending: bytes = b""
    last: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))

    @classmethod
    def open(cls) -> Pipe:
        """A new pipe of a mebibyte (less where the user's limit is less)."""
        reader, spare = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Opening it again makes a new file description: O_RDWR, and blocking for the worker.
        try:
            writer = os.open(f"/proc/self/fd/{spare}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(spare)
        # EPERM: fs.pipe-user-pages-soft is used up; the default size serves as well.
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return cls(reader, writer)

    @classmethod
    def of_descriptor(cls, descriptor: int, inode: int) -> Pipe:
        """The reading end of the pipe behind a worker's own descriptor, which is closed.

        Raises KernelError when it is not the pipe with this inode: the worker may have put a file
        there, or somebody else's pipe.
        """
        doing = "taking over a worker's output"
        found = os.fstat(descriptor)
        if not stat.S_ISFIFO(found.st_mode) or found.st_ino != inode:
            os.close(descriptor)
            raise KernelError("fstat", errno.ESPIPE, doing, "it has put something else there")
        try:
            reader = os.open(
                f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError as error:
            raise KernelError("open", error.errno or 0, doing) from error
        finally:
            os.close(descriptor)
        return cls(reader)

    @property
    def inode(self) -> int:
        """What tells this pipe from every other one."""
        return os.fstat(self.reader).st_ino

    def fileno(self) -> int:
        """For the selector."""
        return self.reader

    def started(self) -> None:
        """The worker has its end; ours of it goes."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def lines(self) -> list[str]:
        """Whole lines of what waits, one read's worth; the last twenty are remembered."""
        return self._split(self._read())

    def _read(self) -> bytes:
        try:
            return os.read(self.reader, _READ)
        except BlockingIOError:
            return b""

    def _split(self, data: bytes) -> list[str]:
        *whole, self.pending = (self.pending + data).split(b"\n")
        if len(self.pending) >= _LONGEST:
            whole.append(self.pending)
            self.pending = b""
        return [self._keep(line) for line in whole]

    def rest(self) -> list[str]:
        """What is left when the worker has ended, the last unfinished line included."""
        found: list[str] = []
        taken = 0
        while taken < _REST and (data := self._read()):
            taken += len(data)
            found += self._split(data)
        if self.pending:
            found.append(self._keep(self.pending))
            self.pending = b""
        return found

    def _keep(self, line: bytes) -> str:
        text = line.decode(errors="replace").rstrip("\r")
        self.last.append(text)
        return text

    def close(self) -> None:
        """Close what is open."""
        os.close(self.reader)
        self.started()


@dataclass(slots=True)
class Voice:
    """Where the supervisor's and the workers' lines go.

    A reader that does not read (a pager, a stopped terminal) must not stop the supervisor: after
    a moment's patience lines are dropped, counted, and the count is said when it reads again.
    """

    style: Literal["prefix", "json", "raw"] = "prefix"
    dropped: int = 0
    impatient_until: float = 0.0  # on the monotonic clock

    def say(self, text: str) -> None:
        """A line of the supervisor's own, on stderr."""
        self._write(2, "segue", {}, text)

    def pass_on(self, pipe: Pipe, lines: list[str]) -> None:
        """Lines of a worker, on stdout."""
        for line in lines:
            self._write(1, pipe.label, dict(pipe.fields), line)

    def _write(self, stream: int, who: str, fields: dict[str, int], text: str) -> None:
        if self.style == "json":
            said = {"time": _stamp(), "who": who, **fields, "line": text}
            line = as_json(said)
        else:
            # Colours of a worker's own too: an escape that colours looks like one that does harm.
            line = f"{who} | {visible(text, tabs=True)}" if fields else f"segue: {paragraph(text)}"
        if self.dropped and self._put(stream, f"{self._gap()}\n"):
            self.dropped = 0
        if self.dropped or not self._put(stream, f"{line}\n"):
            self.dropped += 1
            self.impatient_until = time.monotonic() + _IMPATIENT_SECONDS

    def _gap(self) -> str:
        text = f"{self.dropped} lines were not read"
        if self.style != "json":
            return f"segue: {text}"
        return as_json({"time": _stamp(), "who": "segue", "line": text})

    def _put(self, stream: int, line: str) -> bool:
        patience = 0 if time.monotonic() < self.impatient_until else _PATIENCE_MS
        data = line.encode(errors="replace")
        # OSError: the terminal or the log's reader is gone for good; serving goes on.
        with contextlib.suppress(OSError):
            for start in range(0, len(data), select.PIPE_BUF):
                poller = select.poll()
                poller.register(stream, select.POLLOUT)
                if not poller.poll(patience):
                    return False
                # A pipe that is writable takes this much without blocking (pipe(7)).
                os.write(stream, data[start : start + select.PIPE_BUF])
        return True


def _stamp() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
