"""Load-aware shares: what follows from windows, and where it comes to rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segue.observe.balance import CEILING, DOWN, FLOOR, UP, Balance, Window, bounded

EXACT = 1e-6
WINDOW = st.builds(
    Window,
    seconds=st.floats(0.9, 5),
    accepted=st.integers(0, 100_000),
    waiting=st.floats(0, 5000),
    busy=st.floats(0, 1),
)
WEIGHT = st.floats(0, 4)


class Fleet:
    """Workers that accept so many a second at most, and what waits at each; no chance in it."""

    def __init__(self, abilities: Sequence[float]) -> None:
        self.abilities = dict(enumerate(abilities, start=1))
        self.queues = dict.fromkeys(self.abilities, 0.0)
        self.weights: dict[int, float] = {}
        self.rule = Balance()

    def pass_second(self, load: float) -> float:
        """One window and its refill; what came to the worst off, as a part of what it can do."""
        windows, worst = {}, 0.0
        total = sum(self.weights.get(one, 1.0) for one in self.abilities)
        for one, able in self.abilities.items():
            came = load * self.weights.get(one, 1.0) / total
            before = self.queues[one]
            taken = min(able, before + came)
            self.queues[one] = before + came - taken
            # Of a worker that has time to spare somebody waits for the square of the busy part.
            busy = 1.0 if self.queues[one] or before else (taken / able) ** 2
            windows[one] = Window(1.0, taken, (before + self.queues[one]) / 2, busy)
            worst = max(worst, came / able)
        self.weights = self.rule.refill(windows, self.weights, {})
        return worst


@given(
    st.dictionaries(st.integers(1, 9), WINDOW, min_size=1),
    st.dictionaries(st.integers(1, 9), WEIGHT),
    st.dictionaries(st.integers(1, 9), WEIGHT),
    st.integers(1, 5),
)
def test_weights_keep_their_bounds_and_their_sum(
    windows: dict[int, Window],
    weights: dict[int, float],
    ordered: dict[int, float],
    times: int,
) -> None:
    """Whatever is seen: nobody is cut off or drowned, and what was ordered for all stays."""
    rule, found = Balance(), weights
    for _ in range(times):
        found = rule.refill(windows, found, ordered)
        assert found.keys() == windows.keys()
        assert all(FLOOR - EXACT <= weight <= CEILING + EXACT for weight in found.values())
        orders = {one: ordered.get(one, 1.0) for one in windows}
        given_out = sum(orders[one] * weight for one, weight in found.items())
        assert given_out == pytest.approx(sum(orders.values()), rel=EXACT)


@given(st.dictionaries(st.integers(1, 9), st.floats(0, 1000), min_size=1))
@example({1: 5e-324, 2: 1.0})
@example({1: 5e-324})
def test_bounded_weights_stay_as_they_are(wanted: dict[int, float]) -> None:
    """To the last digit, so that no table is written for nothing; however little is wanted."""
    orders = dict.fromkeys(wanted, 1.0)
    once = bounded(wanted, orders)
    assert sum(once.values()) == pytest.approx(len(once))
    assert bounded(once, orders) == once


@given(st.lists(st.floats(50, 200), min_size=2, max_size=8), st.floats(0.05, 0.9))
@example([50.0, 50.0, 184.0], 0.875)
@settings(deadline=None, max_examples=50)
def test_no_queue_grows_while_others_have_time(abilities: list[float], part: float) -> None:
    """Constant abilities, which together are enough: in the end nobody waits for three seconds,
    and nobody is given what it cannot do by more than what chance is allowed for.
    """
    fleet, load = Fleet(abilities), part * sum(abilities)
    for _ in range(80):
        fleet.pass_second(load)
    for _ in range(40):
        assert fleet.pass_second(load) < 1.05
        assert all(waiting < 3 * fleet.abilities[one] for one, waiting in fleet.queues.items())


@given(st.integers(2, 8), st.floats(0.1, 0.9))
@settings(deadline=None, max_examples=50)
def test_a_worker_four_times_slower_is_found_out_and_forgiven(number: int, part: float) -> None:
    """It gets less as long as it is slow and that is too much for it, and in the end as before."""
    fleet = Fleet([100.0] * number)
    fleet.abilities[1] = 25.0
    load = part * sum(fleet.abilities.values())
    before = load / number
    for _ in range(60):
        fleet.pass_second(load)
    share = load * fleet.weights[1] / number
    assert share < 25.0
    if before >= 25.0:
        assert fleet.weights[1] < 1
    fleet.abilities[1] = 100.0
    for _ in range(120):
        fleet.pass_second(min(load, 50.0 * number))
    assert fleet.weights == dict.fromkeys(fleet.abilities, 1.0)


@given(st.data(), st.integers(2, 8), st.integers(20, 2000), st.floats(0.0, 1.0))
def test_chance_moves_nothing(data: st.DataObject, number: int, rate: int, busy: float) -> None:
    """Workers that are alike, whose counts differ by a standard deviation, and whose queues by
    what comes in a second's half: the weights stay 1.
    """
    noise = int(math.sqrt(rate))
    rule = Balance()
    for _ in range(5):
        windows = {
            one: Window(
                1.0,
                data.draw(st.integers(rate - noise, rate + noise)),
                data.draw(st.floats(0, rate / 2)) * busy,
                data.draw(st.floats(0.8, 1.0)) * busy,
            )
            for one in range(number)
        }
        assert rule.refill(windows, {}, {}) == dict.fromkeys(windows, 1.0)


def test_who_accepts_nothing_keeps_an_eighth() -> None:
    """By halves, so as to be there after three refills; and it comes back when it goes on."""
    fleet = Fleet([100, 100, 100, 100])
    fleet.pass_second(200)
    fleet.abilities[1] = 0.001
    found = []
    for _ in range(6):
        fleet.pass_second(200)
        found.append(fleet.weights[1])
    assert found[0] == pytest.approx(DOWN, rel=0.1)
    assert found[-1] == FLOOR
    fleet.abilities[1] = 100.0
    for _ in range(120):
        fleet.pass_second(200)
    assert fleet.weights[1] == 1.0


def test_who_accepts_everything_at_once_gets_no_more_than_twice_its_part() -> None:
    """A worker that fails each request is the fastest of all."""
    rule = Balance()
    weights: dict[int, float] = {}
    for _ in range(20):
        windows = {1: Window(1, 10_000, 50, 1), **dict.fromkeys((2, 3, 4), Window(1, 50, 50, 1))}
        weights = rule.refill(windows, weights, {})
    assert 1.5 < weights[1] <= CEILING


def test_where_nobody_connects_all_are_alike_again() -> None:
    """Exactly, and in some seconds: what was slow an hour ago says nothing."""
    fleet = Fleet([20, 100])
    for _ in range(20):
        fleet.pass_second(80)
    assert fleet.weights[1] < 0.7
    for _ in range(40):
        fleet.pass_second(0)
    assert fleet.weights == {1: 1.0, 2: 1.0}


def test_what_a_predecessor_found_out_is_not_forgotten_at_once() -> None:
    """After a re-exec there are weights and no measurements: they go back slowly, if at all."""
    calm = {1: Window(1, 20, 0.1, 0.1), 2: Window(1, 100, 2, 0.5)}
    rule, weights = Balance(), {1: 0.3, 2: 1.7}
    for _ in range(3):
        weights = rule.refill(calm, weights, {})
    assert 0.3 <= weights[1] < 0.3 * UP**2


def test_who_is_gone_is_forgotten() -> None:
    """A worker without a window has no weight, and counts for nobody's."""
    fleet = Fleet([20, 100, 100])
    for _ in range(10):
        fleet.pass_second(150)
    alone: Mapping[int, Window] = {2: Window(1, 50, 0, 0.2), 3: Window(1, 50, 0, 0.2)}
    found = fleet.rule.refill(alone, fleet.weights, {})
    assert found == {2: 1.0, 3: 1.0}
