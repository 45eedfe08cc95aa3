"""What waits at a restart, against closed forms.  The seeds are fixed, so a failure is no chance.

The bounds are four standard errors of the draws: what is wrong by more than that fails.
"""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from segue.errors import UsageError
from segue.plan.load import Load
from segue.plan.moment import BLOCK, Moment, drawn
from segue.plan.spread import Lognormal, quantiles

TRIPS = Lognormal(0.04, 0.7)
LOAD = Load(500, TRIPS, accept=Lognormal(0.01, 0.5), workers=4)


def at(load: Load, restarts: int = 2000, seed: int = 3) -> Moment:
    return drawn(load, restarts, np.random.Generator(np.random.SFC64(seed)))


def near(counts: np.ndarray, mean: float) -> bool:
    return bool(abs(counts.mean() - mean) <= 4 * counts.std() / math.sqrt(counts.size))


@pytest.mark.parametrize(
    "load",
    [
        LOAD,
        replace(LOAD, rate=40),
        replace(LOAD, round_trip=quantiles([(0.5, 0.02), (0.99, 0.3), (1, 3)])),
        replace(LOAD, loss=0.03),
        replace(LOAD, burst=0.5),
    ],
    ids=["lognormal", "slow", "quantiles", "loss", "burst"],
)
def test_half_open_requests_are_as_many_as_little_says(load: Load) -> None:
    """The rate times the mean handshake; nothing in the simulation was made from that product."""
    assert near(at(load).half_open.count(2000), load.half_open)


def test_the_queue_is_as_long_as_little_says() -> None:
    """The rate times the mean accept delay."""
    assert near(at(LOAD).queued.count(2000), LOAD.rate * LOAD.accept.mean_s)


def test_counts_differ_as_arrivals_by_chance_do() -> None:
    """M/G/infinity: the variance is the mean.  With a burst its square is added."""
    for load in (LOAD, replace(LOAD, burst=0.5)):
        counts = at(load, 8000).half_open.count(8000)
        expected = load.half_open + (load.burst * load.half_open) ** 2
        assert counts.var() == pytest.approx(expected, rel=4 * math.sqrt(2 / 8000) * 2)


def test_what_is_left_of_a_handshake_is_as_renewal_theory_says() -> None:
    """The mean of the rest is E[H^2] / (2 E[H]): for a lognormal in closed form."""
    rest = at(LOAD).half_open.rest_s.astype(np.float64)
    second = TRIPS.median_s**2 * math.exp(2 * TRIPS.sigma**2)
    expected = second / (2 * TRIPS.mean_s)
    assert abs(rest.mean() - expected) <= 4 * rest.std() / math.sqrt(rest.size)


def test_a_worker_that_stalls_has_what_came_meanwhile() -> None:
    """Rate S^2 / (2 T) in the mean, besides what is queued while none stalls."""
    load = replace(LOAD, accept=Lognormal(0.0), stall_s=1.0, stall_every_s=4.0)
    counts = at(load, 8000).queued.count(8000)
    assert near(counts, load.rate * 1.0**2 / (2 * 4.0))


def test_no_queue_is_longer_than_the_backlog_and_one() -> None:
    """And what does not get in is half-open still, or its SYN comes again."""
    load = replace(LOAD, stall_s=1.0, stall_every_s=2.0)
    free, full = at(load), at(replace(load, backlog=15))
    queues = np.bincount(full.queued.restart * 4 + full.queued.worker)
    assert queues.max() == 16
    waiting = free.half_open.restart.size + free.queued.restart.size
    kept = full.half_open.restart.size + full.queued.restart.size + int(full.late.sum())
    assert kept == waiting
    assert full.late.sum() > 0


def test_what_a_full_queue_keeps_out_follows_from_its_age() -> None:
    """Of a burst of SYNs at a stalled worker the oldest get in: none kept out is older."""
    load = replace(LOAD, workers=1, stall_s=1.9, stall_every_s=2.0, backlog=3)
    moment = at(load, 50)
    for restart in range(50):
        mine = moment.queued.age_s[moment.queued.restart == restart]
        if mine.size < 4:
            continue
        theirs = moment.half_open.age_s[moment.half_open.restart == restart]
        assert (theirs >= mine.min()).all()


def test_depths_that_were_seen_replace_the_queue() -> None:
    """Each restart meets one of them."""
    moment = at(replace(LOAD, depths=(0, 3, 50)))
    assert set(moment.queued.count(2000)) == {0, 3, 50}


def test_a_chunk_holds_a_block_and_what_waits() -> None:
    """Not all that it draws: here sixty blocks, of which a hundredth waits."""
    load = replace(LOAD, rate=20_000, round_trip=Lognormal(0.01, 0.8), accept=Lognormal(0.0))
    tracemalloc.start()
    try:
        moment = at(load, 150)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert moment.simulated > 50 * BLOCK
    assert peak < moment.simulated * 4  # one array of all alone would be more


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"rate": math.nan}, "a rate"),
        ({"rate": -1}, "a rate"),
        ({"kept": -1}, "kept"),
        ({"think_s": 0.0}, "to think"),
        ({"workers": 0}, "workers"),
        ({"backlog": -1}, "a backlog"),
        ({"stall_s": 2.0, "stall_every_s": 1.0}, "a stall"),
        ({"stall_s": 2.0}, "a stall"),
        ({"loss": 0.5}, "a loss"),
        ({"burst": -0.1}, "a burst"),
        ({"careless": 1.1}, "careless"),
        ({"closes_after_s": -1}, "until a close"),
    ],
)
def test_a_load_that_cannot_be_is_refused(more: dict[str, float], said: str) -> None:
    """By the name of what is wrong."""
    with pytest.raises(UsageError, match=said):
        replace(LOAD, **more)  # type: ignore[arg-type]
