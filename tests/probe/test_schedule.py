"""When attempts are due: no clock here, the time is given."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import UsageError
from segue.probe.schedule import ClosedLoop, KeepAlive, OpenLoop, Schedule, Timeouts


def drain(schedule: Schedule, now: float) -> list[tuple[float, int]]:
    """All that is to be taken by now, which is a finite time."""
    taken: list[tuple[float, int]] = []
    while schedule.next <= now and len(taken) < 10_000:
        taken.append(schedule.take()[:2])
    return taken


@given(st.floats(0.5, 500), st.floats(0.01, 2))
def test_the_open_loop_hands_out_rate_times_duration(rate: float, duration: float) -> None:
    """Each at its own time, computed from its number, whatever happened to those before."""
    schedule = OpenLoop(rate).begin(100.0, duration, None)
    dues = [due for due, _ in drain(schedule, 1000.0)]
    assert dues == [100.0 + number / rate for number in range(len(dues))]
    assert all(due < 100.0 + duration for due in dues)
    assert 100.0 + len(dues) / rate >= 100.0 + duration
    assert OpenLoop(rate).begin(100.0, duration, None).stop(1000.0) == len(dues)


def test_a_stalled_server_does_not_shift_the_open_loop() -> None:
    """Attempts not taken in time keep the time they were due: no coordinated omission."""
    schedule = OpenLoop(10).begin(0, None, None)
    assert [due for due, _ in drain(schedule, 1.0)] == [number / 10 for number in range(11)]


def test_a_count_ends_any_pace() -> None:
    """Never one more than asked for."""
    assert len(drain(OpenLoop(10).begin(0, 1000, 7), 1000.0)) == 7
    assert len(drain(ClosedLoop(10).begin(0, None, 7), 1000.0)) == 7
    assert len(drain(KeepAlive(10, 1.0).begin(0, None, 7), 1000.0)) == 7


def test_a_client_of_the_closed_loop_goes_on_when_it_is_answered() -> None:
    """At once after an answer, after the pause otherwise; never two attempts at a time."""
    schedule = ClosedLoop(2, pause_s=0.5).begin(0, 10, None)
    assert drain(schedule, 5) == [(0, 0), (0, 1)]
    assert schedule.next == inf
    schedule.done(1, 1.0, ok=True)
    schedule.done(0, 1.0, ok=False)
    assert drain(schedule, 1.4) == [(1.0, 1)]
    assert drain(schedule, 1.5) == [(1.5, 0)]


def test_kept_connections_are_spread_over_the_interval() -> None:
    """Fifty that all ask in the same millisecond would measure their own queue."""
    schedule = KeepAlive(4, 1.0).begin(0, 2, None)
    assert drain(schedule, 0.99) == [(0, 0), (0.25, 1), (0.5, 2), (0.75, 3)]


def test_a_late_answer_does_not_forgive_the_requests_behind_it() -> None:
    """They go out one after the other, each due at its own time; the lane is free only then."""
    schedule = KeepAlive(1, 1.0).begin(0, 10, None)
    assert drain(schedule, 0) == [(0, 0)]
    assert schedule.next == inf
    schedule.done(0, 2.5, ok=True)
    assert schedule.next == 2.5
    assert schedule.take() == (1.0, 0, 1)
    schedule.done(0, 2.6, ok=True)
    assert schedule.take() == (2.0, 0, 1)
    schedule.done(0, 2.7, ok=False)
    assert schedule.next == 3.0


@pytest.mark.parametrize("pace", [OpenLoop(10), ClosedLoop(3), KeepAlive(3, 0.1)])
def test_a_stopped_schedule_stays_stopped(pace: OpenLoop | ClosedLoop | KeepAlive) -> None:
    """Answers that still come do not start it again."""
    schedule = pace.begin(0, None, None)
    _, lane, _ = schedule.take()
    schedule.stop(0.0)
    if lane >= 0:
        schedule.done(lane, 0.0, ok=True)
    assert schedule.next == inf
    assert schedule.stop(9.0) == 0


def test_what_was_due_and_not_begun_is_counted() -> None:
    """A machine that cannot keep the rate says how far behind it was."""
    schedule = OpenLoop(10).begin(0, 2, None)
    schedule.take()
    assert schedule.stop(1.0) == 10
    assert OpenLoop(10).begin(0, 2, None).stop(99) == 20
    assert OpenLoop(10).begin(0, None, 3).stop(99) == 3
    assert ClosedLoop(3).begin(0, None, None).stop(0) == 3


def test_the_first_to_wait_is_the_first_to_expire() -> None:
    """One length for all, so order of coming is order of going."""
    waits: Timeouts[str] = Timeouts(5)
    assert waits.deadline() == inf
    for at, name in enumerate("abcd"):
        waits.add(name, float(at))
    waits.discard("b")
    waits.discard("never there")
    assert waits.deadline() == 5
    assert waits.expired(7) == ["a", "c"]
    assert (waits.oldest(), waits.oldest(), len(waits)) == ("d", None, 0)


@pytest.mark.parametrize("rate", [0, -1, nan, inf])
def test_a_rate_that_is_no_load_is_refused(rate: float) -> None:
    """Zero, less, and what is no number."""
    with pytest.raises(UsageError):
        OpenLoop(rate)


def test_loads_that_are_none_are_refused() -> None:
    """No client, no connection, no interval."""
    with pytest.raises(UsageError):
        ClosedLoop(0)
    with pytest.raises(UsageError):
        ClosedLoop(1, -1)
    with pytest.raises(UsageError):
        KeepAlive(0, 1)
    with pytest.raises(UsageError):
        KeepAlive(1, 0)
