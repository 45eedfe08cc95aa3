"""Every chosen way, several times, on Linux and on the model; and what the numbers come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from segue.errors import KernelError, NotSupported
from segue.lab.comparing.ledger import Fate, Outcome, at
from segue.lab.comparing.on_linux import measure
from segue.lab.comparing.on_model import predict
from segue.lab.comparing.settings import Settings
from segue.lab.ways.leaving import Way

LOST = (Fate.HALF_OPEN, Fate.QUEUED, Fate.ACCEPTED, Fate.REFUSED, Fate.GAVE_UP)


@dataclass(frozen=True, slots=True)
class Summary:
    """Of the restarts by one way on one side: medians, and the least and most of what was lost.

    Times are in milliseconds; what is added is against runs without a restart that had the same
    clients.  None: it never happened, or nothing was answered.
    """

    restarts: int
    connections: int
    lost: dict[str, float]  # by the words of the fates
    least: int  # lost connections, of any fate
    most: int
    reconnected: float
    gone_ms: float | None
    old_ms: float | None
    p50_ms: float | None
    p99_ms: float | None
    added_p50_ms: float | None
    added_p99_ms: float | None

    @property
    def lost_in_all(self) -> float:
        """The sum of the medians."""
        return sum(self.lost.values())


@dataclass(frozen=True, slots=True)
class Compared:
    """One way.  ``linux`` is None where it could not be measured; ``why_not`` says why."""

    way: Way
    linux: Summary | None
    model: Summary
    why_not: str = ""


@dataclass(slots=True)
class _Runs:
    linux: list[Outcome] = field(default_factory=list)
    model: list[Outcome] = field(default_factory=list)
    why_not: str = ""


def compare(
    settings: Settings,
    ways: Sequence[Way],
    repetitions: int,
    doing: Callable[[str], None] = lambda _: None,
) -> list[Compared]:
    """Each repetition has clients of its own, who are the same for every way, and runs the ways in
    turn.  ``doing`` is told what is run.
    """
    plan: list[Way | None] = [None, *ways]
    runs = [_Runs() for _ in plan]
    for number in range(repetitions):
        these = replace(settings, seed=settings.seed + number)
        for way, one in zip(plan, runs, strict=True):
            doing(f"{way.name if way else 'no restart'}, {number + 1} of {repetitions}")
            one.model.append(predict(these, way))
            if not one.why_not:
                try:
                    one.linux.append(measure(these, way))
                except (KernelError, NotSupported) as error:
                    one.why_not = str(error)
    without, *others = runs
    return list(_compared(ways, without, others))


def _compared(ways: Sequence[Way], without: _Runs, runs: Sequence[_Runs]) -> Iterator[Compared]:
    for way, one in zip(ways, runs, strict=True):
        whole = one.linux and not one.why_not and not without.why_not
        linux = summary(one.linux, without.linux) if whole else None
        why_not = one.why_not or without.why_not
        yield Compared(way, linux, summary(one.model, without.model), why_not)


def summary(restarts: Sequence[Outcome], without: Sequence[Outcome]) -> Summary:
    """Of at least one; latencies of all of them together."""
    mine = [one for run in restarts for one in run.latencies_ms]
    base = [one for run in without for one in run.latencies_ms]
    p50, p99 = at(0.5, mine), at(0.99, mine)
    lost = [sum(run.fates[fate] for fate in LOST) for run in restarts]
    return Summary(
        restarts=len(restarts),
        connections=sum(run.total for run in restarts),
        lost={fate.value: median(run.fates[fate] for run in restarts) for fate in LOST},
        least=min(lost),
        most=max(lost),
        reconnected=median(run.reconnected for run in restarts),
        gone_ms=_milliseconds([run.gone_s for run in restarts]),
        old_ms=_milliseconds([run.old_s for run in restarts]),
        p50_ms=p50,
        p99_ms=p99,
        added_p50_ms=_more(p50, at(0.5, base)),
        added_p99_ms=_more(p99, at(0.99, base)),
    )


def _milliseconds(seconds: Sequence[float | None]) -> float | None:
    there = [one for one in seconds if one is not None]
    return median(there) * 1000 if there else None


def _more(mine: float | None, base: float | None) -> float | None:
    return None if mine is None or base is None else mine - base
