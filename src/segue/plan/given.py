"""The load that somebody gives figures of, such as the options of ``segue plan``.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segue.errors import UsageError
from segue.plan.load import Load
from segue.plan.spread import parse


def load(given: Mapping[str, Any]) -> Load:
    """The load that these options describe; None is an option that was not given.

    Raises UsageError.
    """
    if given["rate"] is None:
        raise UsageError("give --rate, or --from ADDRESS to look at a live group")
    figures: dict[str, Any] = {"rate": given["rate"], "round_trip": parse(given["rtt"] or "40")}
    figures |= {name: parse(given[name]) for name in ("accept", "answer") if given[name]}
    for name in ("kept", "backlog", "workers"):
        if given[name] is not None:
            figures[name] = given[name]
    for option, name in (("think", "think_s"), ("closes_after", "closes_after_s")):
        if given[option] is not None:
            figures[name] = given[option]
    figures |= {
        name: given[name] / 100 for name in ("loss", "burst", "careless") if given[name] is not None
    }
    if given["stall"]:
        figures["stall_s"], figures["stall_every_s"] = _stall(given["stall"])
    return Load(**figures)


def _stall(text: str) -> tuple[float, float]:
    stalls, comma, every = text.partition(",")
    try:
        if comma:
            return float(stalls), float(every)
    except ValueError:
        pass
    raise UsageError(f"{text!r} is no stall: write how long and how often in seconds, such as 1,30")
