"""How a foreign listener stands, by what is seen of it."""

from __future__ import annotations

from itertools import product

from segue.supervisor.attach.status import STAGES
from segue.supervisor.lifecycle.stages import Stage


def test_everything_that_can_be_seen_has_a_stage() -> None:
    """And is one that people know of workers: nobody tells us that a listener stops."""
    assert STAGES.keys() == set(product((False, True), repeat=3))
    assert set(STAGES.values()) == {Stage.STARTING, Stage.STANDBY, Stage.SERVING, Stage.DRAINING}


def test_who_has_not_accepted_is_starting_whatever_else() -> None:
    """A share says nothing then: where none has accepted, all have one."""
    assert {stage for (ready, *_), stage in STAGES.items() if not ready} == {Stage.STARTING}


def test_who_has_a_share_serves() -> None:
    """Of an older generation too, beside a canary."""
    assert {STAGES[True, True, older] for older in (False, True)} == {Stage.SERVING}
