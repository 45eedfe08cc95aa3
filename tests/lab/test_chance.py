"""Stories by chance: Linux and the model must tell them alike too."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from segue.lab.chance import story
from segue.lab.replay import both, replay
from segue.lab.sides import ModelSide

BOUNDED = settings(
    max_examples=30,
    derandomize=True,
    deadline=None,
    database=None,
    # A story that differs is shrunk by hand or by the bench: here it would outlast the suite.
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow],
)


@st.composite
def stories(draw: st.DrawFn) -> str:
    """Of three to ten steps."""
    steps = draw(st.integers(3, 10))
    return story(lambda choices: draw(st.sampled_from(choices)), steps)


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.kernel("6.18")
@pytest.mark.timeout(300)  # soon after boot the comparison waits (FACTS, boot)
@BOUNDED
@given(stories())
def test_what_nobody_thought_of_is_told_alike(told: str) -> None:
    """Calls, losses, repetitions, settings, waits and generations in any order."""
    expected, ours = both(told)
    assert ours == expected


@given(stories())
@settings(max_examples=200, derandomize=True, deadline=None, database=None)
def test_the_model_tells_any_story_and_always_the_same(told: str) -> None:
    """No chance is inside: the same calls and segments, the same answers."""
    assert replay(told, ModelSide()) == replay(told, ModelSide())
