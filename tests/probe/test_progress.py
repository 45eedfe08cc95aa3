"""The table of steps: every pair is decided, and no stage is without a way to it and from it."""

from __future__ import annotations

from itertools import product

import pytest

from segue.errors import IllegalInput
from segue.probe.fates import Stage
from segue.probe.progress import STEPS, Step, advance

# An attempt in CALLING has no connection yet: it ends there, or begins in CONNECTING.
ON_THE_WAY = [stage for stage in Stage if stage is not Stage.CALLING]


@pytest.mark.parametrize(("stage", "step"), list(product(Stage, Step)))
def test_every_step_is_decided_by_the_table(stage: Stage, step: Step) -> None:
    """A pair with a row leads there; a pair that cannot be is refused, with what can be."""
    if (stage, step) in STEPS:
        assert advance(stage, step) is STEPS[stage, step]
    else:
        with pytest.raises(IllegalInput, match=f"{step.name} in {stage.name}"):
            advance(stage, step)


def test_every_stage_is_reached_and_left() -> None:
    """A connection begins in CONNECTING, and from there each stage has a way to it and from it."""
    reached = {Stage.CONNECTING}
    while more := {to for (at, _), to in STEPS.items() if at in reached} - reached:
        reached |= more
    assert reached == set(ON_THE_WAY)
    assert {at for at, _ in STEPS} == set(ON_THE_WAY)
    assert {step for _, step in STEPS} == set(Step)
