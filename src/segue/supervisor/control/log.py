"""The output of the supervisor and the workers; each line names its source."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from segue.visible import as_json, paragraph, visible

Level = Literal["info", "warning", "error"]
# As sd-daemon(3) has them: journald takes the number from the beginning of a line, and removes it.
_PRIORITIES: dict[Level, str] = {"info": "<6>", "warning": "<4>", "error": "<3>"}
_PATIENCE_MS = 200  # a slow reader has read something by then
_IMPATIENT_SECONDS = 1.0  # for so long after a dropped line we wait for no reader


@dataclass(slots=True)
class Log:
    """Writes the lines of the supervisor and of the workers.

    A reader that does not read (a pager, a stopped terminal) must not stop the supervisor.  Lines
    of workers are held back for a moment.  Then they are dropped and counted, and the count is
    written when the reader reads again.  Only for its own lines does the supervisor wait that long.
    """

    style: Literal["prefix", "json", "raw"] = "prefix"
    times: Literal["auto", "on", "off"] = "off"  # in front of the supervisor's own lines
    format: Literal["text", "json"] = "text"  # of the supervisor's own lines
    instance: str = ""  # whose lines they are
    now: Callable[[], float] = time.monotonic
    dropped: int = 0  # since the count was last written
    lost: int = 0  # in total
    impatient_until: float = 0.0
    _unsent: deque[bytes] = field(default_factory=deque)  # of workers, in pieces
    _held_since: float | None = None  # when the first of them could not be written

    @property
    def as_json(self) -> bool:
        """The supervisor's own lines are JSON."""
        return "json" in {self.style, self.format}

    def say(self, text: str, level: Level = "info") -> None:
        """A line of the supervisor's own, on stderr."""
        self.finish()
        line = f"{self._own(text, level)}\n".encode(errors="replace")
        self._wait(2)
        if not self._write(2, line):
            self._drop(1)

    def pass_on(self, label: str, fields: Mapping[str, int], lines: Sequence[str]) -> None:
        """Lines of a worker, on stdout.  They share a buffer: one write a line would be slow."""
        if not lines:
            return
        stamp = _stamp() if self.style == "json" else ""
        text = "\n".join(self._line(label, fields, line, stamp) for line in lines)
        self._unsent += pieces(f"{text}\n".encode(errors="replace"))
        self.flush()

    def finish(self) -> None:
        """Write the held-back lines of workers, if a process reads them in time."""
        while not self.flush():
            _writable(1, _PATIENCE_MS)

    def flush(self) -> bool:
        """Write as many lines of workers as possible.  False if some are still held back.

        Lines that are held back for too long are dropped.
        """
        while self._unsent:
            if self._write(1, self._unsent[0]):
                self._unsent.popleft()
                self._held_since = None
                continue
            now = self.now()
            if self._held_since is None:
                self._held_since = now
            if self.impatient_until <= now < self._held_since + _PATIENCE_MS / 1000:
                return False
            self._drop(sum(piece.count(b"\n") for piece in self._unsent))
            self._unsent.clear()
            self._held_since = None
        return True

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        self.lost += lines
        self.impatient_until = self.now() + _IMPATIENT_SECONDS

    def _line(self, who: str, fields: Mapping[str, int], text: str, stamp: str) -> str:
        if self.style == "json":
            said = {"time": stamp, "who": who, **fields, "line": text}
            return as_json(said)
        # A worker's colours too: an escape for a colour looks like a harmful one.
        return f"{who} | {visible(text, tabs=True)}"

    def _own(self, text: str, level: Level) -> str:
        if self.as_json:
            said = {"time": _stamp(), "level": level, "instance": self.instance}
            return as_json({**said, "who": "segue", "line": text})
        priority = _PRIORITIES[level] if _into_journal() else ""
        stamp = f"{_stamp()} " if self._timed() else ""
        lines = f"{stamp}segue: {paragraph(text)}".splitlines()
        return "\n".join(f"{priority}{line}" for line in lines)

    def _timed(self) -> bool:
        if self.times == "auto":
            return stat.S_ISREG(os.fstat(2).st_mode)
        return self.times == "on"

    def _write(self, stream: int, data: bytes) -> bool:
        """True if all of it could be written.  Never waits."""
        if self.dropped:
            gap = self._own(f"{self.dropped} lines were not read", "warning")
            if not _put(stream, f"{gap}\n".encode()):
                return False
            self.dropped = 0
        return all(_put(stream, piece) for piece in pieces(data))

    def _wait(self, stream: int) -> None:
        """Wait until it can be written to, or the time is over."""
        if self.now() >= self.impatient_until:
            _writable(stream, _PATIENCE_MS)


def pieces(data: bytes) -> Iterator[bytes]:
    """The data in pieces that a pipe takes in one write (PIPE_BUF); whole lines where they fit."""
    start = 0
    while start < len(data):
        most = start + select.PIPE_BUF
        end = data.rfind(b"\n", start, most) + 1 or most
        yield data[start:end]
        start = end


def _put(stream: int, piece: bytes) -> bool:
    # OSError: the terminal or the reader of the log is gone for good.  Serving continues.
    with contextlib.suppress(OSError):
        if not _writable(stream, 0):
            return False
        # A pipe that is writable takes this much without blocking (pipe(7)).
        os.write(stream, piece)
    return True


def _writable(stream: int, milliseconds: int) -> bool:
    poller = select.poll()
    poller.register(stream, select.POLLOUT)
    return bool(poller.poll(milliseconds))


def _into_journal() -> bool:
    """True if our lines go straight to journald, which then has told us so (systemd.exec(5))."""
    named = os.environ.get("JOURNAL_STREAM")
    if not named:
        return False
    found = os.fstat(2)
    return named == f"{found.st_dev}:{found.st_ino}"


def _stamp() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
