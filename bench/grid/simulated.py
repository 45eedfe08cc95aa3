"""The same loads as ``segue plan`` simulates them."""

from __future__ import annotations

import numpy as np

from bench.grid.cells import Cell, Figure
from segue.lab.comparing.settings import THINK_S, Settings
from segue.lab.ways.known import WAYS
from segue.lab.ways.leaving import GUARD_S, LIMIT_S, LOOK_S
from segue.plan.load import Limits, Load
from segue.plan.simulate import Forecast, Study, forecast
from segue.plan.spread import Lognormal, Quantiles, quantiles

_ARRIVALS = 400_000
_PARTS = (*(number / 50 for number in range(50)), 0.99, 0.995, 0.999, 1.0)


def load(given: Settings) -> Load:
    """What a comparison's servers and clients are like, in the words of a forecast."""
    return Load(
        rate=given.rate,
        round_trip=Lognormal(given.rtt_s),
        accept=_waits(given),
        answer=Lognormal(0.0),
        kept=given.kept,
        # Between two requests, as their server sees it.
        think_s=THINK_S + given.rtt_s,
        workers=given.workers,
        backlog=given.backlog,
    )


def _waits(given: Settings) -> Quantiles:
    """How long connections wait for a worker that needs a fixed time for each (M/D/1).

    By Lindley's recursion over arrivals that never change.
    """
    chance = np.random.Generator(np.random.SFC64(0))
    between = chance.exponential(given.workers / given.rate, _ARRIVALS)
    walk = np.cumsum(given.accept_s - between)
    waits = walk - np.minimum(np.minimum.accumulate(walk), 0.0)
    return quantiles([(part, float(np.quantile(waits, part))) for part in _PARTS])


def simulated(cell: Cell, seed: int = 1) -> dict[str, dict[str, Figure]]:
    """By way and measure: the mean of a thousand restarts, and where 95 of 100 are."""
    # Successors listen and the old ones leave at the same instant.
    limits = Limits(GUARD_S, LIMIT_S, LOOK_S, beside=0.0)
    found = forecast(Study(load(cell.settings(0)), limits, seed=seed))
    return {way: _of(found, way) for way in WAYS}


def _of(found: Forecast, way: str) -> dict[str, Figure]:
    half_open, queued = (found.values(way, f"lost_{one}") for one in ("half_open", "queued"))
    lost = found.values(way, "lost_accepted")
    return {
        name: _figure(values)
        for name, values in {
            "early": half_open + queued,
            "half-open": half_open,
            "queued": queued,
            "accepted": lost,
            # Here a client whose request was lost connects again, too.
            "again": found.values(way, "reconnected") + lost,
            "gone ms": 1000 * found.values(way, "listener_gone_s"),
            "old ms": 1000 * found.values(way, "configuration_gone_s"),
        }.items()
    }


def _figure(values: np.typing.NDArray[np.float64]) -> Figure:
    low, high = np.quantile(values, [0.025, 0.975], method="closest_observation")
    return Figure(float(values.mean()), float(low), float(high))
