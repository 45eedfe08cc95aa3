"""Each way against a closed form or against another way, on the same restarts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from segue.plan.load import Limits, Load
from segue.plan.simulate import LOST, Forecast, Study, forecast
from segue.plan.spread import Lognormal
from segue.plan.ways import WAYS

TRIPS = Lognormal(0.04, 0.7)
LOAD = Load(500, TRIPS, accept=Lognormal(0.01, 0.5), kept=300, think_s=2.0)
NAMES = [way.name for way in WAYS]


def found(load: Load = LOAD, **limits: float) -> Forecast:
    return forecast(Study(load, Limits(**limits), restarts=2000, seed=5))


def mean(values: np.ndarray) -> tuple[float, float]:
    """And four standard errors."""
    return float(values.mean()), 4 * float(values.std()) / math.sqrt(values.size)


def beyond(seconds: float) -> float:
    """E[(H - t)+] of a lognormal round trip: the partial expectation."""
    mu, sigma = math.log(TRIPS.median_s), TRIPS.sigma

    def normal(z: float) -> float:
        return 0.5 * math.erfc(-z / math.sqrt(2))

    z = (mu - math.log(seconds)) / sigma
    return TRIPS.mean_s * normal(z + sigma) - seconds * normal(z)


@pytest.mark.parametrize("beside", [0.0, 0.5])
def test_close_loses_what_is_half_open_and_what_is_queued(beside: float) -> None:
    """The rate times the handshake and the accept delay, but for what successors have already."""
    seen = found(beside=beside)
    lost = seen.values("close", "lost_half_open") + seen.values("close", "lost_queued")
    expected = (1 - beside) * (LOAD.half_open + LOAD.rate * LOAD.accept.mean_s)
    got, error = mean(lost)
    assert abs(got - expected) <= error
    total = lost + seen.values("close", "lost_accepted")
    assert (seen.values("close", LOST) == total).all()


def test_a_fixed_wait_loses_the_handshakes_that_are_longer() -> None:
    """The rate times E[(H - guard)+]; nothing that is queued."""
    seen = found(guard_s=0.05)
    got, error = mean(seen.values("drain", "lost_half_open"))
    assert abs(got - LOAD.rate * beyond(0.05)) <= error
    assert got > 1
    assert not seen.values("drain", "lost_queued").any()


def test_the_last_handshake_ends_when_the_theory_says() -> None:
    """P(the listener is gone by t) = exp(-rate E[(H - t)+]): an M/G/infinity queue is empty."""
    load = replace(LOAD, accept=Lognormal(0.0))
    gone = found(load).values("drain-counted", "listener_gone_s")
    for seconds in (0.15, 0.25, 0.4):
        expected = math.exp(-load.rate * beyond(seconds))
        got = float((gone <= seconds).mean())
        assert abs(got - expected) <= 4 * math.sqrt(expected * (1 - expected) / gone.size)
        assert 0.01 < expected < 0.999


def test_a_drain_to_the_last_loses_none_and_takes_longer_than_migration() -> None:
    """Counted or observed: the second waits for its next look."""
    seen = found()
    for name in ("drain-counted", "drain-observed"):
        for what in ("lost_half_open", "lost_queued"):
            assert not seen.values(name, what).any()
    counted = seen.values("drain-counted", "listener_gone_s")
    observed = seen.values("drain-observed", "listener_gone_s")
    assert ((observed >= counted) & (observed < counted + 0.0051)).all()
    assert counted.min() > 0
    assert not seen.values("migrate-policy", "listener_gone_s").any()


def test_a_limit_cuts_what_a_drain_waits_for() -> None:
    """What is half-open then is lost, and no listener is there for longer."""
    seen = found(replace(LOAD, loss=0.02), guard_s=0.1, limit_s=0.1)
    assert seen.values("drain-counted", "lost_half_open").mean() > 5
    assert seen.values("drain-counted", "listener_gone_s").max() == pytest.approx(0.1)


def test_a_stalled_worker_hands_over_when_it_can() -> None:
    """By the sockets' owner: up to the stall's end; a migration needs no owner."""
    load = replace(LOAD, stall_s=1.0, stall_every_s=4.0)
    seen = found(load)
    assert seen.values("handoff", "listener_gone_s").max() > 0.9
    assert not seen.values("handoff", "lost_queued").any()
    assert found(load, guard_s=0.2, limit_s=0.2).values("handoff", "lost_queued").any()
    assert not seen.values("migrate-hash", "listener_gone_s").any()
    assert seen.values("backlog-zero", "late").any()


def test_a_queue_that_is_never_taken_lets_in_all_that_come_in_time() -> None:
    """As a fixed wait; else what finds the one place taken may come again too late."""
    swift = found(replace(LOAD, accept=Lognormal(0.0)), guard_s=0.05, beside=0.0)
    got, error = mean(swift.values("backlog-zero", "lost_half_open"))
    assert abs(got - LOAD.rate * beyond(0.05)) <= error
    slow = found(guard_s=0.05, beside=0.0).values("backlog-zero", "lost_half_open")
    assert swift.values("close", "lost_half_open").mean() > slow.mean() > got + error


def test_a_queue_of_one_place_is_waited_for() -> None:
    """Until the guard time, however soon it is empty."""
    gone = found(guard_s=0.3).values("backlog-zero", "listener_gone_s")
    assert gone == pytest.approx(np.full(gone.shape, 0.3))


def test_cookies_save_what_handoff_does_not() -> None:
    """The half-open requests: with them the two are alike."""
    seen = found()
    assert not seen.values("cookies", LOST).sum() >= seen.values("handoff", LOST).sum()
    assert (
        seen.values("handoff", LOST) - seen.values("handoff", "lost_half_open")
        == seen.values("cookies", LOST)
    ).all()


def test_a_close_after_the_last_accept_loses_what_comes_between() -> None:
    """Whatever its accept delay.  A SYN that is steered away is not there."""
    load = replace(LOAD, closes_after_s=0.1, accept=Lognormal(0.0))
    seen = found(load)
    got, error = mean(seen.values("close", "lost_queued"))
    assert abs(got - 0.5 * LOAD.rate * 0.1) <= error
    assert seen.backlog("migrate-hash") > found(replace(load, closes_after_s=0.0)).backlog(
        "migrate-hash"
    )
    assert not seen.values("migrate-policy", LOST).sum() > seen.values("inherit", LOST).sum()


@pytest.mark.parametrize("name", [one for one in NAMES if one != "carry"])
def test_every_way_but_carry_ends_kept_connections(name: str) -> None:
    """Those that are idle; a client whose request crosses the close loses it."""
    seen = found()
    idle = LOAD.kept * (1 - LOAD.busy)
    again, lost = seen.values(name, "reconnected"), seen.values(name, "lost_accepted")
    got, error = mean(again + lost)
    assert abs(got - idle) <= error
    # E[1 - exp(-H / think)], to the second order.
    second = TRIPS.median_s**2 * math.exp(2 * TRIPS.sigma**2)
    crossing = TRIPS.mean_s / LOAD.think_s - second / (2 * LOAD.think_s**2)
    got, error = mean(lost)
    assert abs(got - idle * crossing) <= error + 0.02 * idle * crossing


def test_carry_ends_none() -> None:
    """But for an answer that takes longer than the limit."""
    seen = found()
    assert not seen.values("carry", LOST).any()
    assert not seen.values("carry", "reconnected").any()
    slow = found(replace(LOAD, answer=Lognormal(20.0)), guard_s=1.0, limit_s=5.0)
    assert slow.values("carry", LOST).any()
    assert slow.values("carry", "configuration_gone_s").max() == pytest.approx(5.0)


def test_careless_clients_lose_every_idle_connection() -> None:
    """Whose close they do not notice."""
    seen = found(replace(LOAD, careless=1.0))
    assert not seen.values("close", "reconnected").any()


def test_no_old_configuration_goes_before_its_listener() -> None:
    """By any way; and it is there for longer by those that accept longer."""
    seen = found()
    for name in NAMES:
        gone = seen.values(name, "configuration_gone_s")
        assert (gone >= seen.values(name, "listener_gone_s")).all()
    drained = seen.values("drain-counted", "configuration_gone_s")
    assert drained.mean() > seen.values("migrate-policy", "configuration_gone_s").mean()


def test_the_targets_need_room_for_what_migrates() -> None:
    """A whole queue that comes to one target, and what that has itself."""
    load = replace(LOAD, workers=1, depths=(0, 40))
    seen = found(load)
    assert set(seen.values("migrate-policy", "depth")) == {0.0, 40.0, 80.0}
    assert set(seen.values("inherit", "depth")) == {0.0, 40.0}
    assert seen.backlog("migrate-policy") == 80
    assert (
        seen.values("migrate-hash", "depth").mean() < seen.values("migrate-policy", "depth").mean()
    )
