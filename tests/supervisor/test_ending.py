"""What a request to stop means, by what came before, and the time that it has."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.supervisor.lifecycle.ending import ENDING, Meaning, fitted, meaning
from segue.supervisor.lifecycle.limits import Limits
from segue.supervisor.lifecycle.stages import Phase

TERM, INT, HUP, QUIT = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("number", [TERM, INT, HUP])
def test_the_first_signal_begins_the_stop(phase: Phase, number: int) -> None:
    """In every phase in which it is not under way."""
    expected = Meaning.GO_ON if phase in ENDING else Meaning.BEGIN
    assert meaning(phase, number, set()) is expected


@pytest.mark.parametrize(
    ("number", "before", "expected"),
    [
        (TERM, {TERM}, Meaning.GO_ON),
        (HUP, {HUP}, Meaning.GO_ON),
        (TERM, {TERM, INT}, Meaning.GO_ON),
        (INT, {TERM}, Meaning.GO_ON),
        (INT, {INT}, Meaning.AT_ONCE),
        (QUIT, set(), Meaning.AT_ONCE),
    ],
)
def test_only_impatience_ends_at_once(number: int, before: set[int], expected: Meaning) -> None:
    """QUIT, and INT after INT; a service manager's repetitions are none."""
    assert meaning(Phase.STOPPING, number, before) is expected


@pytest.mark.parametrize("phase", Phase)
def test_quit_is_always_at_once(phase: Phase) -> None:
    """Whether a stop is under way or not."""
    assert meaning(phase, QUIT, set()) is Meaning.AT_ONCE


@pytest.mark.parametrize(
    ("limit", "delay", "drain", "stop"),
    [
        (0.0, 5.0, 30.0, 10.0),  # none
        (40.0, 0.0, 30.0, 10.0),  # enough
        (45.0, 5.0, 30.0, 10.0),
        (39.0, 0.0, 30.0, 9.75),
        (9.0, 0.0, 9.0, 2.25),  # docker stop, a second before its end
        (29.0, 5.0, 24.0, 6.0),  # Kubernetes
    ],
)
def test_limits_are_fitted_into_the_whole(
    limit: float, delay: float, drain: float, stop: float
) -> None:
    """The delay is kept; the drain limit is cut, and the stop timeout has its part of the rest."""
    found = fitted(Limits(stop_limit=limit, stop_delay=delay))
    assert (found.stop_delay, found.drain_timeout, found.stop_timeout) == (delay, drain, stop)


@given(st.floats(0.1, 900), st.floats(0.1, 900), st.floats(0, 900), st.floats(0.1, 900))
def test_a_fitted_stop_is_never_longer(
    drain: float, stop: float, delay: float, more: float
) -> None:
    """Than the limit, nor than what was asked for."""
    limits = Limits(
        drain_timeout=drain, stop_timeout=stop, stop_delay=delay, stop_limit=delay + more
    )
    found = fitted(limits)
    assert found.stop_delay + found.drain_timeout <= limits.stop_limit + 1e-9
    assert found.stop_delay + found.stop_timeout <= limits.stop_limit + 1e-9
    assert 0 < found.drain_timeout <= drain
    assert 0 < found.stop_timeout <= stop
