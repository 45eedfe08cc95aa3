"""A run along its time: before, during and after the restart, and slice by slice.

Pure.  The restart is the command's span and some seconds more, since a command such as
``kill -HUP`` is over long before what it set off.  An attempt belongs to the restart when any part
of it, from when it was due to its end, falls into that span.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import Any

from segue.probe.fates import Fate
from segue.probe.result import percentile

# A picture as wide as a page has room for so many; less than 50 ms is below what a reader sees.
SLICES = 240
FINEST_S = 0.05

EndedAttempt = tuple[float, float, Fate]  # ended at, took (both in seconds), fate


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when the restart counts, and when its command was over; seconds of the run."""

    begin_s: float
    command_end_s: float
    end_s: float

    def touches(self, due_s: float, at_s: float) -> bool:
        """An attempt from ``due_s`` to ``at_s`` falls into it at least in part."""
        return due_s <= self.end_s and at_s >= self.begin_s


@dataclass(frozen=True, slots=True)
class TimelinePhase:
    """Counts and latencies of the attempts of one phase."""

    name: str
    total: int
    lost: int
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """What ended in one slice of time; latencies are of answered attempts."""

    at_s: float
    ok: int = 0
    lost: dict[Fate, int] = field(default_factory=dict)
    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None

    @property
    def losses(self) -> int:
        """Lost in this slice, however."""
        return sum(self.lost.values())


@dataclass(frozen=True, slots=True)
class Timeline:
    """``slices`` follow one another every ``slice_s`` seconds, empty ones included."""

    phases: tuple[TimelinePhase, ...]
    slice_s: float
    slices: tuple[Slice, ...]
    span: Span | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = asdict(self)
        for one in found["slices"]:
            one["lost"] = {fate.value: count for fate, count in one["lost"].items()}
        return found


def timeline_of(rows: Iterable[EndedAttempt], seconds: float, span: Span | None) -> Timeline:
    """The timeline of these attempts, over a run of this length."""
    rows = list(rows)
    last = max((at for at, _, _ in rows), default=0.0)
    length = max(seconds, last, FINEST_S)
    width = max(FINEST_S, _round_up(length / SLICES))
    return Timeline(tuple(_phases(rows, span)), width, tuple(_slices(rows, length, width)), span)


def _round_up(seconds: float) -> float:
    """The next of 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10 and so on: slices a reader can name."""
    for step in (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0):
        if seconds <= step:
            return step
    return float(ceil(seconds / 60) * 60)


def _phases(rows: list[EndedAttempt], span: Span | None) -> Iterator[TimelinePhase]:
    if span is None:
        yield _phase("steady", rows)
        return
    sorted_by: dict[str, list[EndedAttempt]] = {"before": [], "restart": [], "after": []}
    for row in rows:
        at, took, _ = row
        inside = span.touches(at - took, at)
        name = "restart" if inside else ("before" if at < span.begin_s else "after")
        sorted_by[name].append(row)
    for name, found in sorted_by.items():
        yield _phase(name, found)


def _phase(name: str, rows: list[EndedAttempt]) -> TimelinePhase:
    good = _latencies(rows)
    return TimelinePhase(
        name,
        total=sum(fate.attempt for _, _, fate in rows),
        lost=sum(fate.lost for _, _, fate in rows),
        p50_ms=percentile(good, 50),
        p90_ms=percentile(good, 90),
        p99_ms=percentile(good, 99),
        max_ms=good[-1] if good else None,
    )


def _latencies(rows: Iterable[EndedAttempt]) -> list[float]:
    return sorted(took * 1e3 for _, took, fate in rows if fate is Fate.OK)


def _slices(rows: list[EndedAttempt], length: float, width: float) -> Iterator[Slice]:
    number = ceil(round(length / width, 6))
    found: list[list[EndedAttempt]] = [[] for _ in range(number)]
    for row in rows:
        found[min(number - 1, max(0, int(row[0] / width)))].append(row)
    for index, inside in enumerate(found):
        good = _latencies(inside)
        yield Slice(
            round(index * width, 6),
            ok=len(good),
            lost=dict(Counter(fate for _, _, fate in inside if fate.lost)),
            p50_ms=percentile(good, 50),
            p99_ms=percentile(good, 99),
            max_ms=good[-1] if good else None,
        )
