"""Phases and slices: every attempt is in exactly one of each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from segue.probe.fates import Fate
from segue.probe.timeline import EndedAttempt, Span, timeline_of

SPAN = Span(3.0, 3.1, 5.0)
rows = st.lists(
    st.tuples(st.floats(0, 12), st.floats(0, 4), st.sampled_from(list(Fate))), max_size=60
)


@given(rows, st.floats(0, 12))
def test_nothing_is_counted_twice_or_not_at_all(found: list[EndedAttempt], seconds: float) -> None:
    """The sums over phases and over slices are those of the run."""
    timeline = timeline_of(found, seconds, SPAN)
    asked = sum(fate.attempt for _, _, fate in found)
    lost = sum(fate.lost for _, _, fate in found)
    assert sum(one.total for one in timeline.phases) == asked
    assert sum(one.lost for one in timeline.phases) == lost
    assert sum(one.losses for one in timeline.slices) == lost
    assert sum(one.ok for one in timeline.slices) == sum(fate is Fate.OK for _, _, fate in found)


def test_an_attempt_that_touches_the_restart_belongs_to_it() -> None:
    """Due before and ended within, within, due within and ended after, all around it."""
    ok = Fate.OK
    found = [
        (2.9, 1.0, ok),
        (3.5, 1.0, ok),
        (4.0, 0.1, ok),
        (6.0, 2.0, ok),
        (7.0, 6.0, ok),
        (9.0, 1.0, ok),
    ]
    before, restart, after = timeline_of(found, 10.0, SPAN).phases
    assert (before.total, restart.total, after.total) == (1, 4, 1)
    assert before.p50_ms == 1000


def test_slices_are_of_a_width_one_can_name() -> None:
    """From 50 ms up, never more than a picture has room for."""
    for seconds, width in ((0.0, 0.05), (10.0, 0.05), (30.0, 0.25), (600.0, 5.0), (86400.0, 360.0)):
        timeline = timeline_of([], seconds, None)
        assert timeline.slice_s == width
        assert len(timeline.slices) <= 241


def test_without_a_command_all_is_steady() -> None:
    """One phase, and no span."""
    timeline = timeline_of([(1.0, 0.5, Fate.OK)], 2.0, None)
    assert [one.name for one in timeline.phases] == ["steady"]
    assert timeline.as_dict()["span"] is None
