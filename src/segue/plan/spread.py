"""A time that differs from connection to connection: round trips, accept delays, answers.

Pure.  Two shapes: lognormal, which has the long tail that measured round trips have, and quantiles
as somebody measured them.  Times are in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from segue.errors import UsageError

Floats = NDArray[np.float32]

# Of ten million round trips one is longer than this many deviations: a window must end somewhere.
_DEVIATIONS = 5.2
_Z99 = 2.3263479  # the normal distribution's quantile of 99 %
# One figure is a median, and the 99th percentile is then four times as long: what many public
# measurements of round trips show, more or less.  Whoever knows better gives two figures.
_P99_OF_MEDIAN = 4.0
_SHAPES = "MEDIAN, MEDIAN,P99 or PERCENT:MS,PERCENT:MS,..."


class Spread(Protocol):
    """Times to draw from."""

    @property
    def mean_s(self) -> float:
        """The mean, in closed form."""

    @property
    def longest_s(self) -> float:
        """No time that is drawn is longer."""

    def draw(self, chance: np.random.Generator, count: int) -> Floats:
        """So many times, independent of each other."""

    def draw_rest(self, chance: np.random.Generator, count: int) -> Floats:
        """What is left of those that are under way at any instant.

        A long one is met more often than a short one, in proportion to its length, and at any
        place of it (the renewal theory's equilibrium).
        """

    def describe(self) -> str:
        """In words, such as "40 ms (99 %: 200 ms)"."""


@dataclass(frozen=True, slots=True)
class Lognormal:
    """``sigma`` is the deviation of the logarithm; 0 for a time that never differs."""

    median_s: float
    sigma: float = 0.0

    @property
    def mean_s(self) -> float:
        """exp(mu + sigma^2 / 2)."""
        return self.median_s * math.exp(self.sigma**2 / 2)

    @property
    def longest_s(self) -> float:
        """Longer ones, one of ten million, are drawn as this."""
        return self.median_s * math.exp(_DEVIATIONS * self.sigma)

    def draw(self, chance: np.random.Generator, count: int) -> Floats:
        """Independent ones."""
        return self._drawn(chance, count, 0.0)

    def draw_rest(self, chance: np.random.Generator, count: int) -> Floats:
        """Weighted by its length a lognormal time is lognormal, with mu + sigma^2."""
        met = self._drawn(chance, count, self.sigma**2)
        return met * chance.random(count, dtype=np.float32)

    def _drawn(self, chance: np.random.Generator, count: int, shift: float) -> Floats:
        found = chance.standard_normal(count, dtype=np.float32)
        np.multiply(found, np.float32(self.sigma), out=found)
        if shift:
            np.add(found, np.float32(shift), out=found)
        np.minimum(found, np.float32(_DEVIATIONS * self.sigma), out=found)
        np.exp(found, out=found)
        np.multiply(found, np.float32(self.median_s), out=found)
        return found

    def describe(self) -> str:
        """The median and the 99th percentile."""
        p99 = self.median_s * math.exp(_Z99 * self.sigma)
        return f"{_ms(self.median_s)} (99 %: {_ms(p99)})" if self.sigma else _ms(self.median_s)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Knots of the inverse distribution, straight lines between: ``parts`` from 0 to 1."""

    parts: tuple[float, ...]
    times_s: tuple[float, ...]

    @property
    def mean_s(self) -> float:
        """The area below the lines."""
        return sum(weight for weight in self._weights())

    @property
    def longest_s(self) -> float:
        """The last knot."""
        return self.times_s[-1]

    def _weights(self) -> list[float]:
        return [
            (right - left) * (low + high) / 2
            for left, right, low, high in zip(
                self.parts, self.parts[1:], self.times_s, self.times_s[1:], strict=False
            )
        ]

    def draw(self, chance: np.random.Generator, count: int) -> Floats:
        """Independent ones."""
        found: Floats = np.interp(chance.random(count), self.parts, self.times_s).astype(np.float32)
        return found

    def draw_rest(self, chance: np.random.Generator, count: int) -> Floats:
        """A segment by its area, a place in it by its height, and any part of that time."""
        weights = np.array(self._weights())
        total = weights.sum()
        if not total:
            return np.zeros(count, dtype=np.float32)
        segment = np.searchsorted(np.cumsum(weights / total), chance.random(count), side="right")
        segment = np.minimum(segment, len(weights) - 1)
        times = np.array(self.times_s)
        low, high = times[segment] ** 2, times[segment + 1] ** 2
        met = np.sqrt(low + chance.random(count) * (high - low))
        rest: Floats = (met * chance.random(count)).astype(np.float32)
        return rest

    def describe(self) -> str:
        """The median and the 99th percentile."""
        median, p99 = (float(np.interp(one, self.parts, self.times_s)) for one in (0.5, 0.99))
        return f"{_ms(median)} (99 %: {_ms(p99)})"


def parse(text: str) -> Spread:
    """A time in milliseconds: MEDIAN, MEDIAN,P99 or PERCENT:MS,...  Raises UsageError."""
    words = [one.strip() for one in text.split(",")]
    try:
        if ":" in text:
            pairs = [one.partition(":") for one in words]
            return quantiles([(float(part) / 100, float(ms) / 1000) for part, _, ms in pairs])
        figures = [float(one) / 1000 for one in words]
    except ValueError:
        raise UsageError(f"{text!r} is not a time in milliseconds: write {_SHAPES}") from None
    if len(figures) > 2 or not all(0 <= one < math.inf for one in figures):
        raise UsageError(f"{text!r} is not a time in milliseconds: write {_SHAPES}")
    median, p99 = figures[0], figures[-1] if len(figures) == 2 else figures[0] * _P99_OF_MEDIAN
    if not median:
        return Lognormal(0.0)
    if p99 < median:
        raise UsageError(f"{text!r}: the 99th percentile is shorter than the median")
    return Lognormal(median, math.log(p99 / median) / _Z99)


def quantiles(knots: list[tuple[float, float]]) -> Quantiles:
    """Of (part, seconds) in ascending order; the ends are as the nearest knot.

    Raises UsageError.
    """
    parts, times = [one for one, _ in knots], [one for _, one in knots]
    in_order = parts == sorted(set(parts)) and times == sorted(times)
    numbers = not any(map(math.isnan, (*parts, *times)))  # which no order is kept with
    if not (numbers and in_order and parts[0] >= 0 and parts[-1] <= 1 and 0 <= times[0] < math.inf):
        raise UsageError(
            "quantiles go up: percentages from 0 to 100, each once, and times that do not get"
            " shorter"
        )
    if parts[0] > 0:
        parts, times = [0.0, *parts], [times[0], *times]
    if parts[-1] < 1:
        parts, times = [*parts, 1.0], [*times, times[-1]]
    if not times[-1] < math.inf:
        raise UsageError("a quantile is not finite")
    return Quantiles(tuple(parts), tuple(times))


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
