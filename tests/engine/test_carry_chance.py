"""Carries at random moments: none of a connection that is not idle, and no byte lost or doubled."""

from __future__ import annotations

import pytest
from bench.carrying.clients import Habits
from bench.carrying.trial import RULES, carried_apart
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9")]

CARRIES = 300
SECONDS = 3 * PATIENCE  # it ends as soon as there were so many


@pytest.mark.parametrize("pause_ms", [0.0, 20.0])
def test_what_the_server_says_is_idle_is_carried_and_nothing_else(pause_ms: float) -> None:
    """Requests in pieces, pipelined, too early, half-closed, aborted; answers with pauses."""
    habits = Habits(seed=1, pause_ms=pause_ms, hints=bool(pause_ms), patience=PATIENCE)
    judged = carried_apart(CARRIES, SECONDS, habits, RULES["marks"])
    assert judged.carried >= CARRIES
    assert not judged.wrong
    assert judged.findings == []


def test_what_was_noted_of_requests_is_enough_where_answers_do_not_pause() -> None:
    """By the rule of HTTP/1.x alone, without a time in which nothing moves."""
    habits = Habits(seed=1, patience=PATIENCE)
    judged = carried_apart(CARRIES, SECONDS, habits, RULES["notes"])
    assert judged.carried >= CARRIES
    assert not judged.wrong
    assert judged.findings == []


def test_what_the_kernel_knows_is_not_enough() -> None:
    """The judgement works: by the kernel's word alone, connections are carried half through."""
    habits = Habits(seed=1, think_ms=5.0, pause_ms=50.0, patience=2.0)
    judged = carried_apart(CARRIES, SECONDS, habits, RULES["kernel"])
    assert judged.wrong
    assert judged.findings
