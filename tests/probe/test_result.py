"""Counting, percentiles, gaps, and what limits them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.probe.fates import Fate
from segue.probe.limits import sentences
from segue.probe.result import Result, Tally, percentile


def finished(tally: Tally, until: float = 10.0) -> Result:
    return tally.result(target="t", load="l", began=0.0, until=until, events=True)


def some() -> Result:
    tally = Tally(0.0)
    for number in range(1, 101):
        tally.answered(number * 0.01, number * 0.01 + number / 1000)
        tally.late.append(0.0001)
    tally.failed(Fate.RESET_AFTER, 1.0, 1.5, reused=True, note="ECONNRESET")
    tally.failed(Fate.RESET_AFTER, 1.0, 1.6, reused=False, note="another")
    tally.failed(Fate.IDLE_CLOSED, 2.0, 2.0, reused=True, note="FIN")
    tally.failed(Fate.PORTS_EXHAUSTED, 2.0, 2.0, reused=False, note="EADDRNOTAVAIL")
    return finished(tally)


def test_what_is_counted_where() -> None:
    """An idle close is no attempt; a port that was not there is one, and no loss."""
    result = some()
    assert (result.total, result.lost, result.lost_reused) == (103, 2, 1)
    assert result.count(Fate.OK) == 100
    assert result.count(Fate.EOF) == 0
    assert result.examples[Fate.RESET_AFTER] == "after 1.500 s: ECONNRESET"
    assert result.rate == pytest.approx(10.3)


def test_percentiles_are_of_answers_and_by_nearest_rank() -> None:
    """A hundred answers of 1 to 100 ms: the 99th percentile is the 99th of them."""
    result = some()
    found = (result.p50_ms, result.p90_ms, result.p99_ms, result.max_ms)
    assert found == pytest.approx((50, 90, 99, 100))


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 100))
def test_a_percentile_is_a_value_that_occurred(values: list[float], percent: float) -> None:
    """And at least that share of all values is not above it."""
    values.sort()
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-9


def test_the_gap_counts_from_the_beginning_and_to_the_end() -> None:
    """A server that answers nothing at first, or nothing at last, was away for that long."""
    assert finished(Tally(0.0), until=3.0).gap_ms == 3000
    tally = Tally(0.0)
    for at in (0.5, 0.6, 2.0):
        tally.answered(at, at)
    assert finished(tally, until=2.1).gap_ms == pytest.approx(1400)
    assert finished(tally, until=9.0).gap_ms == pytest.approx(7000)


def test_what_this_machine_could_not_make_is_said() -> None:
    """And nothing where nothing limits the numbers."""
    (said,) = sentences(some())
    assert said.startswith("1 not made: this machine had no free local port")
    assert list(sentences(finished(Tally(0.0)))) == []


def test_a_probe_that_was_late_says_so() -> None:
    """Latencies that are the probe's own are not blamed on the server."""
    tally = Tally(0.0)
    tally.answered(0.0, 0.5)
    tally.late.append(0.6)
    tally.held_back, tally.unbegun = 3, 4
    text = "\n".join(sentences(finished(tally)))
    assert "this machine was busy" in text
    assert "3 waited" in text
    assert "4 were due and never begun" in text
