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
from segue.watch.sample import Rates, Sample, rates

# An answer that takes long costs the supervisor as long: the next one waits so many times that.
_COST = 20
_EVENTS = 20  # of the history, the latest
_HISTORY_EVERY = 1.0  # seconds between two readings of the file
# Rates are of a second or more, however often there is a look: nobody reads a number that changes
# ten times a second.  A look may come somewhat early.
_RATES_EVERY = 0.95
_COUNTS = frozenset({"new", "given"})  # of a worker; only rates are made of these


@dataclass(slots=True)
class Feed:
    """The looks at one instance."""

    running: Running
    now: Callable[[], float] = time.monotonic
    clock: Callable[[], float] = time.time
    due: float = 0.0  # not before
    _sample: Sample | None = None
    _counted: Sample | None = None  # the last look of which there are rates
    _rates: Rates = field(default_factory=Rates)
    _reader: Reader = field(default_factory=Reader)
    _read: float = field(default=-_HISTORY_EVERY)

    def look(self) -> tuple[Sample, Rates]:
        """A new sample, and the last rates.  A supervisor that does not answer is one too."""
        began = self.now()
        events = self._sample.events if self._sample else ()
        if began >= self._read + _HISTORY_EVERY:
            self._read = began
            events = tuple(read(Paths.at(self.running.control))[-_EVENTS:])
        status, error = None, ""
        counts = self._counted is None or began >= self._counted.at + _RATES_EVERY
        self._reader.unseen = frozenset() if counts else _COUNTS
        try:
            status = client.status(self.running, self._reader)
        except (SegueError, OSError) as failed:
            error = str(failed)
        ended = self.now()
        self.due = ended + _COST * (ended - began)
        name = status.name if status else self.running.name or self.running.control
        self._sample = Sample(name, ended, self.clock(), status, events, error)
        if counts or status is None:
            self._rates = rates(self._sample, self._counted)
            self._counted = self._sample if status else None
        return self._sample, self._rates
