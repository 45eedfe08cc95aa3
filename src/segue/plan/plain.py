"""A forecast for programs: plain values that JSON can have.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segue.plan.advice import advise, assumed
from segue.plan.simulate import LOST, Figure, Forecast
from segue.plan.ways import FIELDS, WAYS


def as_plain(found: Forecast, restarts_per_day: float, notes: Sequence[str]) -> dict[str, Any]:
    """Every number of every way."""
    study = found.study
    advice = advise(found, restarts_per_day)
    ways = {}
    for way in WAYS:
        figures = {name: _figure(found.figure(way.name, name)) for name in (LOST, *FIELDS)}
        day = found.several(way.name, LOST, round(restarts_per_day))
        ways[way.name] = {
            "about": way.known.about,
            "privilege": way.known.privilege,
            "kernel": way.known.kernel,
            **figures,
            "lost_per_day": _figure(day),
            "backlog": found.backlog(way.name),
        }
    return {
        "assumed": assumed(study.load),
        "half_open": study.load.half_open,
        "restarts": study.restarts,
        "restarts_per_day": restarts_per_day,
        "seed": study.seed,
        "simulated": found.simulated,
        "ways": ways,
        "advice": {"way": advice.way, "reason": advice.reason, "more": list(advice.more)},
        "notes": list(notes),
    }


def _figure(figure: Figure) -> dict[str, float]:
    return {"mean": figure.mean, "low": figure.low, "high": figure.high, "worst": figure.worst}
