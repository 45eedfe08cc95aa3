"""A study's forecast is one and the same, wherever and in whichever order its chunks are drawn."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from segue.errors import UsageError
from segue.plan.load import Limits, Load
from segue.plan.simulate import LOST, Forecast, Study, forecast, gathered, simulate
from segue.plan.spread import Lognormal
from segue.plan.ways import FIELDS, WAYS

STUDY = Study(
    Load(2000, Lognormal(0.04, 0.7), kept=50, stall_s=0.5, stall_every_s=9.0, loss=0.01),
    restarts=1100,
    seed=11,
)


def test_the_order_of_chunks_makes_no_difference() -> None:
    """Nor does the process that they are drawn in."""
    here = forecast(STUDY)
    numbers = list(range(len(STUDY.chunks())))
    assert len(numbers) > 2
    backwards = [simulate(STUDY, number) for number in reversed(numbers)]
    assert (gathered(STUDY, reversed(backwards)).found == here.found).all()
    elsewhere = [pickle.loads(run(STUDY, number)) for number in numbers]
    there = gathered(STUDY, elsewhere)
    assert (there.found == here.found).all()
    assert there.simulated == here.simulated


def run(study: Study, number: int) -> bytes:
    """One chunk in another process."""
    code = (
        "import pickle, sys; from segue.plan.simulate import simulate;"
        "sys.stdout.buffer.write(pickle.dumps(simulate(*pickle.load(sys.stdin.buffer))))"
    )
    asked = pickle.dumps((study, number))
    return subprocess.run(
        [sys.executable, "-c", code], input=asked, check=True, capture_output=True
    ).stdout


def test_another_seed_is_another_forecast() -> None:
    """And chunks of one are not alike."""
    first, second = simulate(STUDY, 0), simulate(STUDY, 1)
    assert (first.found[..., :100] != second.found[..., :100]).any()
    assert (simulate(replace(STUDY, seed=12), 0).found != first.found).any()


def test_chunks_are_all_restarts() -> None:
    """Whole ones, and the rest."""
    for restarts in (1, 499, 500, 501):
        assert sum(replace(STUDY, restarts=restarts).chunks()) == restarts


def test_progress_is_told_after_each_chunk() -> None:
    """How many are done, and of how many."""
    told: list[tuple[int, int]] = []
    forecast(STUDY, lambda done, total: told.append((done, total)))
    assert told == [(number + 1, len(STUDY.chunks())) for number in range(len(STUDY.chunks()))]


def made(lost: list[int]) -> Forecast:
    """A forecast in which close loses so many half-open requests."""
    found = np.zeros((len(WAYS), len(FIELDS), len(lost)))
    found[0, 0] = lost
    return Forecast(STUDY, found, 0)


def test_a_figure_has_the_interval_of_its_restarts() -> None:
    """Of a hundred and one restarts two and a half are beyond each end."""
    figure = made(list(range(101))).figure("close", LOST)
    assert (figure.mean, figure.worst) == (50, 100)
    assert (figure.low, figure.high) == pytest.approx((2.5, 97.5), abs=0.5)


@pytest.mark.parametrize("restarts", [20, 1000])
def test_a_sum_of_restarts_differs_less_than_each(restarts: int) -> None:
    """By the root of how many there are: 1.96 deviations to each side."""
    one = made([0, 10] * 500)
    figure = one.several("close", LOST, restarts)
    assert figure.mean == 5 * restarts
    half = 1.96 * 5 * restarts**0.5
    assert figure.high - figure.mean == pytest.approx(half, rel=0.15)
    assert figure.mean - figure.low == pytest.approx(half, rel=0.15)


@pytest.mark.parametrize(
    "more", [{"restarts": 0}, {"seed": -1}, {"restarts": 10**9}, {"load": Load(1e12, Lognormal(1))}]
)
def test_a_study_that_has_no_end_is_refused(more: dict[str, object]) -> None:
    """Before anything is drawn."""
    with pytest.raises(UsageError):
        replace(STUDY, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("more", [{"guard_s": 2.0, "limit_s": 1.0}, {"beside": 1.0}])
def test_limits_must_fit(more: dict[str, float]) -> None:
    """A guard time is no longer than the limit, and successors do not get all beside the old."""
    with pytest.raises(UsageError):
        Limits(**more)
