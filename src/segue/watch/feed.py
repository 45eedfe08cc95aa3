"""Looks at instances, one after the other, as often as they may be looked at."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from segue.errors import SegueError
from segue.supervisor.control import client
from segue.supervisor.control.history import read
from segue.supervisor.control.instances import Running
from segue.supervisor.control.paths import Paths
from segue.supervisor.control.status import Reader
from segue.watch.sample import Sample

# An answer that takes long costs the supervisor as long: the next one waits so many times that.
_COST = 20
_EVENTS = 20  # of the history, the latest
_HISTORY_EVERY = 1.0  # seconds between two readings of the file


@dataclass(slots=True)
class Feed:
    """The looks at one instance."""

    running: Running
    now: Callable[[], float] = time.monotonic
    clock: Callable[[], float] = time.time
    due: float = 0.0  # not before
    _sample: Sample | None = None
    _before: Sample | None = None
    _reader: Reader = field(default_factory=Reader)
    _read: float = field(default=-_HISTORY_EVERY)

    def look(self) -> tuple[Sample, Sample | None]:
        """A new sample, and the one before it.  A supervisor that does not answer is one too."""
        began = self.now()
        events = self._sample.events if self._sample else ()
        if began >= self._read + _HISTORY_EVERY:
            self._read = began
            events = tuple(read(Paths.at(self.running.control))[-_EVENTS:])
        status, error = None, ""
        try:
            status = client.status(self.running, self._reader)
        except (SegueError, OSError) as failed:
            error = str(failed)
        ended = self.now()
        self.due = ended + _COST * (ended - began)
        name = status.name if status else self.running.name or self.running.control
        self._before = self._sample
        self._sample = Sample(name, ended, self.clock(), status, events, error)
        return self._sample, self._before
