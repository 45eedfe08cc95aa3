"""The pipe into which one worker prints.  It is read in pieces and gives whole lines.

The worker holds it open for reading too (its descriptor is O_RDWR).  So when the supervisor dies, a
worker that logs gets neither SIGPIPE nor EPIPE: up to a mebibyte waits in the pipe, and the next
supervisor takes the reading end from the worker and loses no line.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from segue.errors import KernelError

_PIPE_BYTES = 1 << 20  # fs.pipe-max-size, what an ordinary user may ask for
_LAST_LINES = 20
_LONGEST = 1 << 16  # bytes; a longer line is cut, so that memory is bounded
_READ = 1 << 16  # bytes at once, so that a worker that floods does not delay others
_REST = 2 * _PIPE_BYTES  # more may come from a dead worker's children, and is not read


@dataclass(slots=True, eq=False)
class Pipe:
    """The pipe of one worker; both descriptors are this object's until given away."""

    reader: int
    writer: int = -1
    label: str = ""
    fields: dict[str, int] = field(default_factory=dict)
    pending: bytes = b""
    rest: deque[bytes] = field(default_factory=deque)  # read when the worker ended
    last: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))

    @classmethod
    def open(cls) -> Pipe:
        """A new pipe of a mebibyte (less where the user's limit is less)."""
        reader, spare = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Opening it again gives a new file description: O_RDWR, and blocking for the worker.
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

        Raises KernelError if it is not the pipe with this inode: the worker may have put a file or
        another process's pipe there.
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
        """The number that identifies this pipe."""
        return os.fstat(self.reader).st_ino

    def fileno(self) -> int:
        """For the selector."""
        return self.reader

    def started(self) -> None:
        """The worker has its end of the pipe: close ours."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    @property
    def whole(self) -> bool:
        """True if a whole line is here that has not been given out."""
        return bool(self.rest) or b"\n" in self.pending

    def lines(self, most: int) -> list[str]:
        """At most ``most`` whole lines, and at most 64 KiB unless one line is longer.

        If no line is here, the pipe is read once.  The last twenty lines are remembered.
        """
        while b"\n" not in self.pending and (data := self._next()):
            self.pending += data
            if len(self.pending) >= _LONGEST:
                break
        end = self.pending.rfind(b"\n", 0, _READ) + 1 or self.pending.find(b"\n") + 1
        *found, left = self.pending[:end].split(b"\n", most)
        self.pending = left + self.pending[end:]
        if b"\n" not in self.pending and len(self.pending) >= _LONGEST:
            found.append(self.pending)
            self.pending = b""
        return [self._keep(line) for line in found]

    def skip(self) -> int:
        """Drop whole lines but remember the last twenty, and return how many there were.

        One call drops at most a mebibyte.  The rest is for the next call.
        """
        count = 0
        for _ in range(_PIPE_BYTES // _READ):
            data = self._read()
            count += self._leave(self.pending + data)
            if not data:
                break
        return count

    def _leave(self, data: bytes) -> int:
        left, end, self.pending = data.rpartition(b"\n")
        if not end and len(self.pending) >= _LONGEST:
            left, end, self.pending = self.pending, b"\n", b""
        if not end:
            return 0
        for line in left.rsplit(b"\n", _LAST_LINES)[-_LAST_LINES:]:
            self._keep(line)
        return left.count(b"\n") + 1

    def take_rest(self) -> None:
        """Read the rest after the worker has ended; ``lines`` gives it out.

        If the last line had no end, it gets one.
        """
        taken = 0
        while taken < _REST and (data := self._read()):
            taken += len(data)
            self.rest.append(data)
        last = self.rest[-1] if self.rest else self.pending
        if last and not last.endswith(b"\n"):
            self.rest.append(b"\n")

    def keep_last(self) -> int:
        """Drop all but the last twenty lines, and return how many were dropped."""
        all_of_it = self._all()
        self.rest.clear()
        self.pending = b"\n".join(all_of_it.rsplit(b"\n", _LAST_LINES + 1)[-_LAST_LINES - 1 :])
        return all_of_it.count(b"\n") - self.pending.count(b"\n")

    @property
    def last_words(self) -> str:
        """The last line that is not of a stack, given out or not; "" if there was none."""
        lines = [*self.last]
        if self.whole:
            rest = self._all().rsplit(b"\n", _LAST_LINES + 1)
            lines += map(_text, rest[-_LAST_LINES - 1 : -1])
        return telling(lines[-_LAST_LINES:])

    def _all(self) -> bytes:
        return self.pending + b"".join(self.rest)

    def _next(self) -> bytes:
        return self.rest.popleft() if self.rest else self._read()

    def _read(self) -> bytes:
        try:
            return os.read(self.reader, _READ)
        except BlockingIOError:
            return b""

    def _keep(self, line: bytes) -> str:
        text = _text(line)
        self.last.append(text)
        return text

    def close(self) -> None:
        """Close what is open."""
        os.close(self.reader)
        self.started()


# What stands after the reason in what a program prints when it dies: frames of Java, Ruby and node
# are indented (in Python they stand before it), node adds the rest of an object and its version.
_AFTER = re.compile(r"\s|\}$|Node\.js v\d|note: run with `RUST_BACKTRACE|$")
_GOROUTINE = re.compile(r"goroutine \d+ \[")  # frames of Go, down to the end


def telling(lines: Sequence[str]) -> str:
    """The last of these lines that says something of itself; "" for none."""
    frames = next((at for at, one in enumerate(lines) if _GOROUTINE.match(one)), len(lines))
    said = [one for one in lines[:frames] if not _AFTER.match(one)]
    return (said or [*lines] or [""])[-1]


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")
