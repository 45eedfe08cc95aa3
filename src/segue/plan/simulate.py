"""A forecast: restarts simulated in chunks, each with its own chance.

The chunk's number and the seed alone say what is drawn, and a chunk's size follows from the load
alone.  So the results are the same wherever and in whichever order chunks are simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from segue.errors import UsageError
from segue.plan.load import Limits, Load
from segue.plan.moment import drawn
from segue.plan.ways import FIELDS, WAYS, Outcomes, accepted, outcomes, scenes

# So many connections, more or less, are a chunk: a fifth of a second, and some megabytes.
_CHUNK = 8_000_000
_MOST_RESTARTS = 500
# Of one restart all that wait are held at once; and nobody waits for an hour's simulation.
_MOST_AT_ONCE, _MOST = 2e8, 1e11
# An interval's ends are quantiles: 1,000 restarts leave 25 beyond each.
ENOUGH_RESTARTS = 1000
_LOST = slice(FIELDS.index("lost_half_open"), FIELDS.index("lost_accepted") + 1)
LOST = "lost"


@dataclass(frozen=True, slots=True)
class Study:
    """One question: the same study has the same forecast."""

    load: Load
    limits: Limits = field(default_factory=Limits)
    restarts: int = ENOUGH_RESTARTS
    seed: int = 1

    def __post_init__(self) -> None:
        if self.restarts < 1 or self.seed < 0:
            raise UsageError("simulate at least one restart, with a seed of at least 0")
        if self.connections > _MOST_AT_ONCE or self.connections * self.restarts > _MOST:
            raise UsageError(
                f"{self.restarts} restarts are {self.connections * self.restarts:.1g} connections:"
                " simulate fewer restarts, or a lower rate"
            )

    @property
    def connections(self) -> float:
        """How many one restart takes in the mean, by which chunks are made."""
        load = self.load
        reach = 0.0 if load.depths else max(load.accept.longest_s, load.stall_s)
        arrivals = sum(
            load.rate * part * (wait + load.round_trip.longest_s + reach)
            for part, wait in load.lanes()
        )
        return arrivals + load.kept * load.busy + load.rate * load.answer.mean_s

    def chunks(self) -> list[int]:
        """How many restarts each chunk has."""
        size = int(max(1, min(_MOST_RESTARTS, _CHUNK / max(1.0, self.connections))))
        whole, rest = divmod(self.restarts, size)
        return [size] * whole + [rest] * bool(rest)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one chunk found: by way, field and restart; and how many connections were drawn."""

    found: Outcomes
    simulated: int


def simulate(study: Study, number: int) -> Chunk:
    """One chunk of the study."""
    seed = np.random.SeedSequence(study.seed, spawn_key=(number,))
    chance = np.random.Generator(np.random.SFC64(seed))
    moment = drawn(study.load, study.chunks()[number], chance)
    seen = scenes(study.load, study.limits, moment, chance)
    theirs = accepted(study.load, moment, chance)
    found = np.stack([outcomes(way, seen[way.steers], theirs, chance) for way in WAYS])
    answers = theirs.served[0].size + theirs.kept[0].size
    return Chunk(found, moment.simulated + answers)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a way over the restarts.  ``low`` to ``high``: 95 of 100 restarts."""

    mean: float
    low: float
    high: float
    worst: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """By way and field, and what all losses of a restart are together.  ``simulated`` counts the
    connections that were drawn one by one, for all ways at once.
    """

    study: Study
    found: Outcomes
    simulated: int

    def values(self, way: str, name: str) -> Outcomes:
        """Of every restart.  ``name`` is one of FIELDS, or LOST for the losses together."""
        rows = self.found[[one.name for one in WAYS].index(way)]
        total: Outcomes = rows[_LOST].sum(axis=0) if name == LOST else rows[FIELDS.index(name)]
        return total

    def figure(self, way: str, name: str) -> Figure:
        """The number over all restarts."""
        values = self.values(way, name)
        low, high = np.quantile(values, [0.025, 0.975], method="closest_observation")
        return Figure(float(values.mean()), float(low), float(high), float(values.max()))

    def several(self, way: str, name: str, restarts: int) -> Figure:
        """The sum over so many restarts, such as those of a day, and where 95 of 100 sums are.

        By sums of restarts that were simulated, drawn again and again; of many, by the normal
        distribution that such sums have.
        """
        values = self.values(way, name)
        mean = float(values.mean()) * restarts
        if restarts > _MANY:
            spread = 1.96 * float(values.std()) * restarts**0.5
            return Figure(mean, max(0.0, mean - spread), mean + spread, mean + 2 * spread)
        chance = np.random.Generator(np.random.SFC64(self.study.seed))
        sums = chance.choice(values, (_SUMS, restarts)).sum(axis=1)
        low, high = np.quantile(sums, [0.025, 0.975], method="closest_observation")
        return Figure(mean, float(low), float(high), float(sums.max()))

    def backlog(self, way: str) -> int:
        """What the targets' backlog must be so that no SYN is dropped at 999 of 1,000 restarts.

        A backlog of N holds N + 1, and takes another SYN while it holds no more than N.
        """
        return int(np.quantile(self.values(way, "depth"), 0.999, method="higher"))


_MANY, _SUMS = 200, 2000


def gathered(study: Study, chunks: Iterable[Chunk]) -> Forecast:
    """Of all chunks, in the order of their numbers."""
    parts = list(chunks)
    found = np.concatenate([one.found for one in parts], axis=2)
    return Forecast(study, found, sum(one.simulated for one in parts))


def forecast(study: Study, told: Callable[[int, int], None] = lambda *_: None) -> Forecast:
    """Simulate it here.  ``told`` hears after each chunk how many are done, and of how many."""
    return gathered(study, _one_by_one(study, told))


def _one_by_one(study: Study, told: Callable[[int, int], None]) -> Iterator[Chunk]:
    total = len(study.chunks())
    for number in range(total):
        yield simulate(study, number)
        told(number + 1, total)
