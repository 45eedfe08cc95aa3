"""One look at an instance, and what has changed since the look before.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from segue.supervisor.control.status import FrontStatus, Status
from segue.supervisor.lifecycle.chronicle import Event

_KINDS = {"new": ("new",), "migrated": ("request", "child", "fastopen")}


@dataclass(frozen=True, slots=True)
class Sample:
    """What was found at one instance at one moment."""

    name: str
    at: float  # on the clock of durations
    clock: float  # seconds since 1970
    status: Status | None = None
    events: tuple[Event, ...] = ()  # of its history, the latest last
    error: str = ""  # why there is no status


@dataclass(frozen=True, slots=True)
class Rates:
    """Decisions a second, by kind, and new connections a second, by worker; None if not known."""

    new: float | None = None
    migrated: float | None = None
    by_hash: float | None = None
    workers: Mapping[int, float] = field(default_factory=dict)  # of those that were there before


def rates(now: Sample, before: Sample | None) -> Rates:
    """What was decided between the two looks, at every address of the instance."""
    if before is None or now.status is None or before.status is None or now.at <= before.at:
        return Rates()
    then = {front.address: front for front in before.status.fronts}
    pairs = [(one, then[one.address]) for one in now.status.fronts if one.address in then]
    had = {one.id: one.new for one in before.status.workers}
    seconds = now.at - before.at

    def rate(kind: str) -> float:
        more = sum(_count(one, kind) - _count(old, kind) for one, old in pairs)
        return max(0, more) / seconds  # less: another supervisor counts now

    workers = {
        one.id: max(0, one.new - had[one.id]) / seconds
        for one in now.status.workers
        if one.id in had
    }
    return Rates(rate("new"), rate("migrated"), rate("hash"), workers)


def _count(front: FrontStatus, kind: str) -> int:
    if kind == "hash":
        return front.by_hash
    return sum(front.counts.get(one, 0) for one in _KINDS[kind])
