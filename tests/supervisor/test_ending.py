"""What a request to stop means, by what came before."""

from __future__ import annotations

import signal

import pytest

from segue.supervisor.lifecycle.ending import ENDING, Meaning, meaning
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
