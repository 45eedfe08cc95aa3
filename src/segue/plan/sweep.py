"""Many forecasts at once: a fleet of services, or one service over a range of figures.

What is to be forecast is a file of TOML.  Each configuration is one task, whose result follows from
the configuration and the seed alone: the same wherever it runs.  Pure.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segue.errors import UsageError
from segue.plan import given
from segue.plan.load import Limits
from segue.plan.simulate import LOST, Study, forecast
from segue.plan.ways import WAYS

_NUMBERS = {
    "rate", "kept", "think", "backlog", "workers", "loss", "burst", "careless", "closes-after",
}  # fmt: skip
_TIMES = {"rtt", "accept", "answer", "stall"}
_LIMITS = {"guard": 1.0, "limit": 30.0, "beside": 50.0}
_SHAPE = {"machines": 1, "restarts-per-day": 10}
_WHOLE = {"seed": 1, "restarts": 1000}
_MOST = 100_000
_LARGEST = 2.0**64  # above every figure
_TOLD = ("reconnected", "listener_gone_s", "configuration_gone_s", "depth")


@dataclass(frozen=True, slots=True)
class Configuration:
    """One service with one value for each figure, and the figures that it was made of."""

    service: str
    figures: dict[str, Any]
    study: Study
    machines: float
    restarts_per_day: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """All of them, in the order of the file.  ``digest``: files that ask the same have the same."""

    configurations: tuple[Configuration, ...]
    digest: str


def parse(text: str) -> Sweep:
    """Of a file.  A figure may be a list: then there is a configuration for each of its values.

    ``[service.NAME]`` has the options of ``segue plan`` without dashes, and ``machines``; what is
    above all services holds for each of them.  ``seed`` and ``restarts`` are the file's.  Raises
    UsageError.
    """
    try:
        found = tomllib.loads(text)
    except ValueError as error:  # an integer of thousands of digits, too
        raise UsageError(f"the sweep is no TOML: {error}") from None
    services = found.pop("service", None)
    if not isinstance(services, dict) or not services:
        raise UsageError("a sweep has at least one service: write [service.NAME]")
    whole = {name: _number(name, found.pop(name, usual)) for name, usual in _WHOLE.items()}
    configurations: list[Configuration] = []
    for name, own in services.items():
        if not isinstance(own, dict):
            raise UsageError(f"service.{name} is no table: write [service.{name}]")
        configurations += _of_service(name, found | own, whole)
        if len(configurations) > _MOST:
            raise UsageError(f"a sweep has at most {_MOST:,} configurations")
    asked = json.dumps([found, services, whole], sort_keys=True)
    return Sweep(tuple(configurations), hashlib.sha256(asked.encode()).hexdigest())


def _of_service(
    name: str, figures: Mapping[str, Any], whole: Mapping[str, float]
) -> list[Configuration]:
    unknown = sorted(figures.keys() - _NUMBERS - _TIMES - _LIMITS.keys() - _SHAPE.keys())
    if unknown:
        raise UsageError(f"service {name} has no figure {unknown[0]!r}")
    lists = [value if isinstance(value, list) else [value] for value in figures.values()]
    count = 1
    for one in lists:
        count *= len(one)
    if not 0 < count <= _MOST:
        raise UsageError(f"service {name} makes {count:,} configurations: at most {_MOST:,}")
    return [
        _configuration(name, dict(zip(figures, values, strict=True)), whole)
        for values in itertools.product(*lists)
    ]


def _configuration(name: str, figures: dict[str, Any], whole: Mapping[str, float]) -> Configuration:
    numbers = {key: _number(key, figures[key]) for key in figures.keys() - _TIMES}
    options: dict[str, Any] = {key.replace("-", "_"): None for key in _NUMBERS | _TIMES}
    options |= {key.replace("-", "_"): numbers[key] for key in numbers.keys() & _NUMBERS}
    options |= {key: str(figures[key]) for key in figures.keys() & _TIMES}
    limits = {key: numbers.get(key, usual) for key, usual in _LIMITS.items()}
    shape = {key: numbers.get(key, usual) for key, usual in _SHAPE.items()}
    if min(shape.values()) < 0:
        raise UsageError(f"service {name}: machines and restarts are at least 0")
    if options["rate"] is None:
        raise UsageError(f"service {name} has no rate")
    study = Study(
        given.load(options),
        Limits(limits["guard"], limits["limit"], beside=limits["beside"] / 100),
        int(whole["restarts"]),
        int(whole["seed"]),
    )
    return Configuration(name, figures, study, shape["machines"], shape["restarts-per-day"])


def _number(name: str, value: Any) -> Any:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not abs(value) < _LARGEST  # NaN is not
    ):
        raise UsageError(f"{name} is a number, and not {value!r:.40}")
    return value


def result(configuration: Configuration) -> dict[str, Any]:
    """The forecast of one, as plain values: by way what a restart loses, and a day of the fleet."""
    found = forecast(configuration.study)
    times = configuration.machines * configuration.restarts_per_day
    ways = {}
    for way in WAYS:
        lost = found.figure(way.name, LOST)
        ways[way.name] = {
            LOST: lost.mean,
            "low": lost.low,
            "high": lost.high,
            "lost_per_day": lost.mean * times,
            "backlog": found.backlog(way.name),
            **{name: found.figure(way.name, name).mean for name in _TOLD},
        }
    return {
        "service": configuration.service,
        "figures": configuration.figures,
        "simulated": found.simulated,
        "ways": ways,
    }
