"""Which slice an attempt belongs to, and what the ratios are."""

from __future__ import annotations

from bench.cases.back_to_back import NONE, RESTARTS, notes, slice_of
from bench.giving_way import Giving
from bench.table import Row

from segue.probe.fates import Fate
from segue.probe.result import Event, Result


def result(*events: Event) -> Result:
    return Result("x", "y", 0.0, 100.0, 10.0, {}, events=events)


def test_an_attempt_counts_where_it_was_due() -> None:
    """One that is due within the slice and ends after it is the slice's; an idle close is none."""
    late = Event(2.5, 1000.0, Fate.OK)  # due 1.5 s after the run began, at 101.5
    lost = Event(1.75, 250.0, Fate.EOF)  # due at 101.5
    before = Event(1.25, 500.0, Fate.OK)  # due at 100.75
    idle = Event(1.5, 0.0, Fate.IDLE_CLOSED)
    sample = slice_of(result(before, idle, lost, late), (RESTARTS, 101.0, 102.0, 4))
    assert sample.measures == {
        "attempts": 2,
        "lost": 1,
        "restarts": 4,
        "p50_ms": 1000.0,
        "p99_ms": 1000.0,
        "max_ms": 1000.0,
    }
    assert sample.kinds == {"eof": 1}


def test_a_slice_without_answers_has_no_latencies() -> None:
    """A percentile of nothing is not zero."""
    sample = slice_of(result(), (NONE, 101.0, 102.0, 0))
    assert sample.measures == {"attempts": 0, "lost": 0, "restarts": 0}


def test_the_ratios_are_of_the_medians() -> None:
    """To whatever else there was; a system without a quiet slice has none."""
    rows = [
        Row(f"a: {NONE}", measures={"p99_ms": [1.0, 2.0, 9.0]}),
        Row(f"a: {Giving.NOT.value}", measures={"p99_ms": [4.0]}),
        Row(f"a: {Giving.NICE.value}", measures={"p99_ms": [3.2]}),
        Row(f"a: {RESTARTS}", measures={"p99_ms": [4.0]}),
        Row(f"b: {RESTARTS}", measures={"p99_ms": [4.0]}),
    ]
    assert notes(rows) == [
        (
            "a: the p99 during restarts is 2.00 times that while nothing else happens, 1.00 times"
            " that while programs start and 1.25 times that while they do at nice 19."
        ),
    ]
