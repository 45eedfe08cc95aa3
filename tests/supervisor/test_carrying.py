"""When kept connections are carried, and what that means for the end of their worker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from segue.supervisor.lifecycle.carrying import Carries, looks
from segue.supervisor.lifecycle.instance import Instance, Renewal, Worker
from segue.supervisor.lifecycle.limits import Limits
from segue.supervisor.lifecycle.plan import Load, deadline, lasting, plan
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.lifecycle.steps import Carry, LetGo, Step, Stop

QUIET = Stop(1, "it is quiet")
NEW = Carries(due=10.0)
LOOKED = Carries(looked=10.0, due=10.5)


def restarted(**more: object) -> Instance:
    """Worker 1 drains since 10, and worker 2 serves."""
    made = Instance(size=1, phase=Phase.SERVING, working=2, shared=((2, 1.0),))
    made.workers[1] = Worker(
        1, 1, 101, 0.0, stage=Stage.DRAINING, stage_since=10.0, draining_since=10.0
    )
    made.workers[2] = Worker(2, 2, 102, 5.0, stage=Stage.SERVING)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def steps(made: Instance, its: Carries | None, now: float, load: Load = Load()) -> list[Step]:  # noqa: B008
    return plan(made, {1: load}, Limits(), now, carries={} if its is None else {1: its})


def test_a_worker_is_not_stopped_before_it_was_looked_at() -> None:
    """Even one without a connection in use: those that are idle are carried first."""
    assert steps(restarted(), NEW, 10.0, Load(idle=5)) == [Carry(1)]
    assert steps(restarted(), LOOKED, 10.0, Load(idle=5)) == [QUIET]


def test_without_carrying_nothing_changes() -> None:
    """A worker whose application has not the middleware."""
    assert steps(restarted(), None, 10.0, Load(idle=5)) == [QUIET]


def test_a_look_that_is_old_decides_no_stop() -> None:
    """One more is made first."""
    assert steps(restarted(), LOOKED, 10.2) == [Carry(1)]


def test_what_will_be_carried_soon_is_waited_for() -> None:
    """For two seconds since the last that was."""
    its = replace(LOOKED, soon=1, progress=10.0)
    assert steps(restarted(), its, 10.05) == []
    late = replace(its, looked=12.0, due=12.5)
    assert steps(restarted(), late, 12.05) == [QUIET]
    assert steps(restarted(), replace(late, progress=11.0), 12.05) == []


def test_an_answer_that_pauses_is_waited_for() -> None:
    """By what its application says; the kernel takes it for whole."""
    its = replace(LOOKED, looked=30.0, due=30.5, answered=1)
    assert steps(restarted(), its, 30.0, Load(idle=1)) == []
    limit = Stop(1, "the drain limit of 30 s passed")
    late = replace(its, looked=40.0, due=40.5)
    assert steps(restarted(), late, 40.0, Load(idle=1)) == [limit]


def test_what_was_answered_a_moment_ago_is_carried_before_the_stop() -> None:
    """The answer took longer than anything is waited for, and had only just ended at the look."""
    during = LOOKED.after(30.0, 30.5, progress=False, soon=0, staying=0, answered=1)
    ended = during.after(30.02, 30.04, progress=False, soon=1, staying=0, answered=0)
    assert steps(restarted(), ended, 30.03, Load(idle=1)) == []
    carried = ended.after(30.04, 30.06, progress=True, soon=0, staying=0, answered=0)
    assert steps(restarted(), carried, 30.05) == [QUIET]
    late = ended.after(32.0, 32.1, progress=False, soon=1, staying=0, answered=0)
    assert steps(restarted(), late, 32.0, Load(idle=1)) == [QUIET]


def test_patience_begins_anew_after_a_reexec() -> None:
    """What the last program had seen is not known any more: an answer may have just ended."""
    begun = Carries(due=30.0, began=30.0)
    first = begun.after(30.0, 30.02, progress=False, soon=1, staying=0, answered=0)
    assert steps(restarted(), first, 30.01, Load(idle=1)) == []
    late = first.after(32.0, 32.1, progress=False, soon=1, staying=0, answered=0)
    assert steps(restarted(), late, 32.0, Load(idle=1)) == [QUIET]


def test_a_look_is_made_when_it_is_due() -> None:
    """Also while the worker is in use."""
    busy = Load(busy=1)
    assert steps(restarted(), LOOKED, 10.4, busy) == []
    assert steps(restarted(), LOOKED, 10.5, busy) == [Carry(1)]
    assert deadline(restarted(), Limits(), 10.4, {1: LOOKED}) == 10.5


def test_clients_that_stay_are_told_to_go() -> None:
    """A second after the last connection was carried, and once."""
    its = replace(LOOKED, due=20.0, staying=3, progress=10.5)
    busy = Load(busy=1)
    assert steps(restarted(), its, 11.4, busy) == []
    assert steps(restarted(), its, 11.5, busy) == [LetGo(1)]
    assert steps(restarted(), replace(its, told=True), 11.5, busy) == []
    assert steps(restarted(), replace(its, staying=0), 11.5, busy) == []


@pytest.mark.parametrize("phase", [Phase.LEAVING, Phase.STOPPING])
def test_nothing_is_carried_at_the_last_stop(phase: Phase) -> None:
    """There is nobody to whom it could go."""
    made = restarted(phase=phase, refuse_at=99.0)
    assert Carry(1) not in steps(made, NEW, 10.0, Load(idle=5))


def test_nothing_is_carried_while_nobody_has_a_share() -> None:
    """As above."""
    assert looks(restarted(), {1: NEW}, frozenset(), 10.0) == [Carry(1)]
    assert looks(restarted(shared=((2, 0.0),)), {1: NEW}, frozenset(), 10.0) == []


def test_a_cut_comes_after_one_look() -> None:
    """Idle connections go on; the others are closed."""
    made = restarted(renewal=Renewal(cut=True))
    load = Load(busy=1, idle=5)
    assert steps(made, NEW, 10.0, load) == [Carry(1)]
    cut = Stop(1, "accepted connections are to be cut")
    assert steps(made, LOOKED, 10.0, load) == [cut]


def test_the_drain_limit_holds() -> None:
    """Whatever may be carried."""
    its = replace(LOOKED, looked=40.0, due=40.5, soon=1, progress=40.0)
    limit = Stop(1, "the drain limit of 30 s passed")
    assert steps(restarted(), its, 40.0, Load(busy=1)) == [limit]


@pytest.mark.parametrize("step", [Carry(1), LetGo(1)])
def test_no_later_supervisor_needs_to_know(step: Step) -> None:
    """It looks at what is left."""
    assert not lasting(restarted(), step)


STALLS = Carries(due=10.0, stalls=True)


def stalled(**more: object) -> Instance:
    """Worker 1 serves and stalls, so that only worker 2 has a share."""
    made = Instance(size=2, phase=Phase.SERVING, working=1, shared=((2, 1.0),))
    made.workers[1] = Worker(1, 1, 101, 0.0, stage=Stage.SERVING)
    made.workers[2] = Worker(2, 1, 102, 0.0, stage=Stage.SERVING)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_a_worker_that_stalls_is_carried_from() -> None:
    """When a look is due, and it is not told to stop for that."""
    assert looks(stalled(), {1: STALLS}, frozenset(), 10.0) == [Carry(1)]
    assert looks(stalled(), {1: STALLS}, frozenset(), 9.9) == []
    assert deadline(stalled(), Limits(), 9.9, {1: STALLS}) == 10.0
    stays = replace(STALLS, staying=5, due=20.0)
    assert looks(stalled(), {1: stays}, frozenset(), 15.0) == []


@pytest.mark.parametrize(
    "more",
    [
        {"shared": ((1, 1.0), (2, 1.0))},
        {"shared": ()},
        {"phase": Phase.STOPPING},
        {"phase": Phase.STARTING},
    ],
)
def test_nobody_else_is_awake(more: dict[str, object]) -> None:
    """All have a share again when all stall: there is nobody to carry to."""
    made = stalled(**more)
    assert looks(made, {1: STALLS}, frozenset(), 10.0) == []
    assert deadline(made, Limits(), 9.9, {1: STALLS}) == float("inf")
