"""What a restart waits for, and what is said of orders that make no sense now: pure functions."""

from __future__ import annotations

import pytest

from segue.supervisor.lifecycle.instance import Instance
from segue.supervisor.lifecycle.stages import Phase
from segue.supervisor.lifecycle.turn import awaited, busy, nothing_before


def instance(
    phase: Phase, working: int = 1, last: int = 1, newcomer: int | None = None
) -> Instance:
    return Instance(size=1, phase=phase, working=working, last_generation=last, newcomer=newcomer)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (instance(Phase.STARTING), "until generation 1 serves"),
        (instance(Phase.SERVING), ""),
        (instance(Phase.RENEWING, 1, 2, 2), "until generation 2 serves or is given up"),
        (instance(Phase.CANARY, 1, 2, 2), "until generation 2, a canary, is promoted"),
        (instance(Phase.LEAVING), ""),
    ],
)
def test_a_restart_waits_for_what_is_at_work(made: Instance, said: str) -> None:
    """It begins at once only where one generation serves and no other is to come."""
    assert awaited(made).startswith(said)
    assert bool(awaited(made)) is bool(said)


@pytest.mark.parametrize(("phase", "free"), [(one, one is Phase.SERVING) for one in Phase])
def test_workers_are_added_only_while_one_generation_serves(phase: Phase, free: bool) -> None:
    """In every other phase there is a sentence."""
    assert (busy(instance(phase)) == "") is free


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (instance(Phase.STARTING), "generation 1 is the first, and is still starting"),
        (instance(Phase.SERVING), "generation 1 is the first"),
        (instance(Phase.SERVING, 2, 3), "generation 3 was given up, and generation 2 serves"),
        (instance(Phase.SERVING, 3, 3), "the workers before generation 3 have been stopped"),
        (instance(Phase.STOPPING, 3, 3), "the instance stops"),
    ],
)
def test_the_reason_is_what_has_happened(made: Instance, said: str) -> None:
    """A generation that was given up was never one to go back to."""
    assert nothing_before(made).startswith(said)
