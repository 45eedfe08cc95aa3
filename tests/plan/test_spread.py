"""Times to draw from: their means in closed form, and what is read from a command line."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segue.errors import UsageError
from segue.plan.spread import Lognormal, Quantiles, Spread, parse, quantiles

MANY = 400_000
SPREADS = (
    Lognormal(0.04, 0.6),
    Lognormal(0.04),
    quantiles([(0.5, 0.04), (0.9, 0.08), (0.99, 0.2), (1.0, 2.0)]),
)


def chance(seed: int = 7) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(seed))


def near(values: np.ndarray, mean: float) -> bool:
    """Within four standard errors: by chance one time in sixteen thousand it is not."""
    return bool(abs(values.mean() - mean) <= 4 * values.std() / math.sqrt(values.size) + 1e-7)


@pytest.mark.parametrize("spread", SPREADS)
def test_the_mean_is_that_of_the_draws(spread: Spread) -> None:
    """Of many draws, and none is longer than the longest."""
    found = spread.draw(chance(), MANY).astype(np.float64)
    assert near(found, spread.mean_s)
    assert found.max() <= spread.longest_s * (1 + 1e-6)


@pytest.mark.parametrize("spread", SPREADS)
def test_what_is_left_has_the_mean_of_renewal_theory(spread: Spread) -> None:
    """E[X^2] / (2 E[X]), here by the draws' own squares."""
    whole = spread.draw(chance(8), 4 * MANY).astype(np.float64)
    expected = (whole**2).mean() / (2 * whole.mean())
    rest = spread.draw_rest(chance(9), MANY).astype(np.float64)
    error = 4 * (whole**2).std() / math.sqrt(whole.size) / (2 * whole.mean())
    assert abs(rest.mean() - expected) <= error + 4 * rest.std() / math.sqrt(MANY) + 1e-7


def test_quantiles_are_met() -> None:
    """As many draws are below a knot as it says."""
    spread = quantiles([(0.5, 0.04), (0.9, 0.08), (1.0, 2.0)])
    found = spread.draw(chance(), MANY)
    for part, time in ((0.5, 0.04), (0.9, 0.08)):
        below = float((found <= time).mean()) if part != 0.5 else float((found < 0.0400001).mean())
        assert abs(below - part) < 4 * math.sqrt(part * (1 - part) / MANY)


@pytest.mark.parametrize(
    ("text", "median", "p99"),
    [("40", 0.04, 0.16), ("40,200", 0.04, 0.2), ("0", 0.0, 0.0), (" 1.5 , 3", 0.0015, 0.003)],
)
def test_a_time_is_a_median_and_a_tail(text: str, median: float, p99: float) -> None:
    """Without a tail it is four times the median."""
    found = parse(text)
    assert isinstance(found, Lognormal)
    assert found.median_s == pytest.approx(median)
    assert found.median_s * math.exp(2.3263479 * found.sigma) == pytest.approx(p99)


def test_a_time_may_be_quantiles() -> None:
    """The ends are as the nearest that was given."""
    found = parse("50:40,90:80")
    assert found == Quantiles((0.0, 0.5, 0.9, 1.0), (0.04, 0.04, 0.08, 0.08))
    assert found.describe() == "40 ms (99 %: 80 ms)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a time"),
        ("fast", "is not a time"),
        ("nan", "is not a time"),
        ("-1", "is not a time"),
        ("1,2,3", "is not a time"),
        ("40,20", "shorter than the median"),
        ("90:40,50:80", "quantiles go up"),
        ("50:40,90:20", "quantiles go up"),
        ("50:40,200:80", "quantiles go up"),
        ("50:40,90:inf", "not finite"),
        ("50:nan", "quantiles go up"),
        ("10:1,50:nan,99:2", "quantiles go up"),
        ("10:1,nan:2,99:3", "quantiles go up"),
    ],
)
def test_what_is_no_time_is_refused(text: str, said: str) -> None:
    """With what to write instead."""
    with pytest.raises(UsageError, match=said):
        parse(text)
