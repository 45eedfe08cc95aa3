"""What is due where a worker runs and does not do its work."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from segue.supervisor.lifecycle.health import Failing, Hang, Health, Stall, replacements
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.limits import Limits
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.lifecycle.steps import Abandon, Replace, Step

LIMITS = Limits(stall_kill=5.0)
HUNG = Hang(7.0, 5.0, 3, "pid 9 is stopped")
WHY = "it accepted nothing for 7 s while 3 waited (pid 9 is stopped)"


def serving(
    *generations: int, phase: Phase = Phase.SERVING, newcomer: int | None = None
) -> Instance:
    made = Instance(size=len(generations), phase=phase, newcomer=newcomer)
    for number, generation in enumerate(generations, 1):
        made.workers[number] = Worker(number, generation, 100 + number, 0.0, stage=Stage.SERVING)
    return made


def due(
    made: Instance, hangs: Mapping[int, Hang], now: float = 100.0, limits: Limits = LIMITS
) -> list[Step]:
    return replacements(made, limits, Health(hangs=hangs), now)


def test_the_only_worker_is_replaced_if_it_hangs() -> None:
    """When it could have accepted for so long; without a limit, never."""
    made = serving(1)
    assert due(made, {1: HUNG}) == [Replace(1, WHY, hangs=True)]
    assert due(made, {1: Hang(7.0, 4.9, 3)}) == []
    assert due(made, {1: HUNG}, limits=Limits()) == []
    assert str(HUNG) == "accepts nothing for 7 s, 3 wait (pid 9 is stopped)"


def test_where_all_hang_one_is_replaced_at_a_time_and_at_a_pace() -> None:
    """The cause may be elsewhere: not before the successor serves, nor sooner than the limit."""
    made = serving(1, 1)
    both = {1: HUNG, 2: HUNG}
    assert due(made, both) == [Replace(1, WHY, hangs=True)]
    made.workers[1].outgoing, made.replaced = WHY, 100.0
    assert due(made, both, now=106.0) == []
    made.workers[1].stage = Stage.DRAINING
    assert due(made, both, now=104.0) == []
    assert due(made, both, now=105.0) == [Replace(2, WHY, hangs=True)]


def test_one_that_is_stalled_while_others_serve_is_replaced_by_the_same_rule() -> None:
    """By the sum of its stalls."""
    stalls = {2: Stall(1.0, total=5.0)}
    [step] = replacements(serving(1, 1), LIMITS, Health(stalls), 100.0)
    assert step == Replace(2, "it was stalled for 5.0 of the last 50 s", hangs=True)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RENEWING, Phase.LEAVING, Phase.STOPPING])
def test_nobody_is_replaced_while_all_are_or_none_is_to_serve(phase: Phase) -> None:
    """A restart replaces everybody, and a stop needs no successor."""
    assert due(serving(1, phase=phase), {1: HUNG}) == []


def test_a_canary_that_hangs_is_given_up() -> None:
    """At once, whatever the pace; a worker of the working generation is replaced."""
    made = serving(1, 2, phase=Phase.CANARY, newcomer=2)
    made.replaced = 99.0
    assert due(made, {2: HUNG}) == [Abandon(2, f"worker 2.2 (pid 102): {WHY}")]
    made.replaced = 0.0
    assert due(made, {1: HUNG}) == [Replace(1, WHY, hangs=True)]


ASKED = Limits(live_every=2.0, live_failures=3)
BAD = Failing(3, "GET /live was answered 500")


def failing(made: Instance, found: Mapping[int, Failing], now: float = 100.0) -> list[Step]:
    return replacements(made, ASKED, Health(failing=found), now)


def test_a_worker_that_fails_to_answer_well_is_replaced_and_drains() -> None:
    """After so many failures in a row; it may still answer what it has, unless it hangs."""
    made, why = serving(1, 1), "GET /live was answered 500 (failure 3 in a row)"
    assert failing(made, {2: Failing(2, "GET /live was answered 500")}) == []
    assert failing(made, {2: BAD}) == [Replace(2, why)]
    assert failing(made, {2: Failing(3, "x", hangs=True)}) == [
        Replace(2, "x (failure 3 in a row)", hangs=True)
    ]


def test_where_all_fail_there_is_the_same_pace() -> None:
    """The next one no sooner than it takes to find one."""
    made = serving(1, 1)
    made.workers[1].outgoing, made.replaced = "it is old", 90.0
    assert failing(made, {2: BAD}) == []
    made.workers[1].stage = Stage.DRAINING
    assert failing(made, {2: BAD}, now=95.0) == []
    [step] = failing(made, {2: BAD}, now=96.0)
    assert isinstance(step, Replace)


def test_a_canary_that_fails_is_given_up() -> None:
    """With what it answered."""
    made = serving(1, 2, phase=Phase.CANARY, newcomer=2)
    why = "worker 2.2 (pid 102): GET /live was answered 500 (failure 3 in a row)"
    assert failing(made, {2: BAD}) == [Abandon(2, why)]
