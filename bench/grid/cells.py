"""The grid: which loads, which restarts, and what each restart is remembered as.  Pure."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from statistics import median
from typing import Any

from segue.lab.comparing.comparison import LOST
from segue.lab.comparing.ledger import Fate, Outcome, at
from segue.lab.comparing.settings import Settings
from segue.lab.ways.known import WAYS

ROUND_TRIPS_MS = (1, 40, 200)
RATES = (100, 400)
KEPT = (20, 200)
NO_RESTART = ""
# Of a connection that nobody had accepted.
_EARLY = (Fate.HALF_OPEN, Fate.QUEUED, Fate.REFUSED, Fate.GAVE_UP)


@dataclass(frozen=True, slots=True)
class Cell:
    """One load."""

    rtt_ms: int
    rate: int
    kept: int

    def settings(self, repetition: int) -> Settings:
        """Each repetition has clients of its own, who are the same for every way."""
        return Settings(
            rate=self.rate, rtt_s=self.rtt_ms / 1000, kept=self.kept, seed=1 + repetition
        )

    def __str__(self) -> str:
        return f"{self.rate}/s, {self.kept} kept, {self.rtt_ms} ms"


CELLS = tuple(itertools.starmap(Cell, itertools.product(ROUND_TRIPS_MS, RATES, KEPT)))


@dataclass(frozen=True, slots=True)
class Restart:
    """One restart by a way, or, with NO_RESTART, the same clients without one."""

    cell: Cell
    repetition: int
    way: str


def restarts(
    cells: Sequence[Cell], repetitions: int, ways: Sequence[str] = tuple(WAYS)
) -> list[Restart]:
    """All of them; the repetitions of one load are as far apart in time as can be."""
    return [
        Restart(cell, number, way)
        for number in range(repetitions)
        for cell in cells
        for way in (NO_RESTART, *ways)
    ]


def digest(cells: Sequence[Cell]) -> str:
    """The same for the same loads, whose further repetitions have numbers of their own."""
    once = [asdict(one) for one in restarts(cells, 1)]
    return sha256(json.dumps(once).encode()).hexdigest()


MEASURES = ("early", "half-open", "queued", "accepted", "again", "gone ms", "old ms", "p99 ms")
"""``early`` is whatever was lost before it was accepted, ``again`` what was connected again."""


def remembered(found: Outcome) -> dict[str, float | None]:
    """The measures of one restart, as JSON has them."""
    return {
        "early": sum(found.fates[one] for one in _EARLY),
        "half-open": found.fates[Fate.HALF_OPEN],
        "queued": found.fates[Fate.QUEUED],
        "accepted": found.fates[Fate.ACCEPTED],
        "lost": sum(found.fates[one] for one in LOST),
        "again": found.reconnected,
        "gone ms": None if found.gone_s is None else 1000 * found.gone_s,
        "old ms": None if found.old_s is None else 1000 * found.old_s,
        "p99 ms": at(0.99, found.latencies_ms),
    }


@dataclass(frozen=True, slots=True)
class Figure:
    """Of one measure: the median of the repetitions, and the least and the most."""

    middle: float
    low: float
    high: float

    def beyond(self, other: float) -> float:
        """How far another figure is from the middle."""
        return abs(other - self.middle)


Figures = Mapping[tuple[Cell, str], Mapping[str, Figure]]
"""By load and way, and by measure; a measure that no repetition has is not there."""


def figures(asked: Sequence[Restart], done: Mapping[int, Mapping[str, Any]], side: str) -> Figures:
    """Of one side, ``linux`` or ``model``; ``done`` has by number what each restart found.

    Latencies are what a restart adds to those of the same clients without one.
    """
    base = {
        (one.cell, one.repetition): done[number][side]["p99 ms"]
        for number, one in enumerate(asked)
        if one.way == NO_RESTART and number in done and done[number][side] is not None
    }
    values: dict[tuple[Cell, str], dict[str, list[float]]] = {}
    for number, one in enumerate(asked):
        if one.way == NO_RESTART or number not in done or done[number][side] is None:
            continue
        into = values.setdefault((one.cell, one.way), {})
        for name, value in _against(done[number][side], base.get((one.cell, one.repetition))):
            into.setdefault(name, []).append(value)
    return {
        key: {name: Figure(median(them), min(them), max(them)) for name, them in mine.items()}
        for key, mine in values.items()
    }


def _against(found: Mapping[str, Any], base: float | None) -> Iterator[tuple[str, float]]:
    for name in MEASURES:
        value = found[name]
        if name == "p99 ms":
            value = None if value is None or base is None else value - base
        if value is not None:
            yield name, float(value)
