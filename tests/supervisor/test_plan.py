"""The plan: facts in, steps out, no process in sight."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.supervisor.lifecycle.ending import ENDING
from segue.supervisor.lifecycle.health import Health, Stall
from segue.supervisor.lifecycle.instance import HeldListener, Instance, Renewal, Start, Worker
from segue.supervisor.lifecycle.limits import Limits
from segue.supervisor.lifecycle.newcomers import flipped
from segue.supervisor.lifecycle.plan import FOREVER, Load, deadline, lasting, plan
from segue.supervisor.lifecycle.stages import InstanceInput, Phase, Stage, WorkerInput
from segue.supervisor.lifecycle.steps import (
    Abandon,
    Advance,
    End,
    Flip,
    GiveUp,
    Kill,
    Refuse,
    Renew,
    Replace,
    Rescue,
    Retire,
    Share,
    Spawn,
    Step,
    Stop,
)

LIMITS = Limits()


def instance(*stages: tuple[int, Stage], size: int = 1, **more: object) -> Instance:
    """An instance with workers (generation, stage), numbered from 1, in this order."""
    made = Instance(size=size, phase=Phase.SERVING)
    for name, value in more.items():
        setattr(made, name, value)
    for generation, stage in stages:
        made.last_worker += 1
        number = made.last_worker
        made.workers[number] = Worker(number, generation, 100 + number, 0.0, stage=stage)
    made.shared = tuple((one.id, 1.0) for one in made.living if one.stage is Stage.SERVING)
    return made


def steps(made: Instance, now: float = 1.0, **held: Load) -> list[Step]:
    return plan(made, {int(key[1:]): value for key, value in held.items()}, LIMITS, now)


def test_a_first_generation_is_spawned_whole() -> None:
    """At the start, as many workers as asked for, at once."""
    made = instance(size=3, phase=Phase.STARTING)
    assert steps(made) == [Spawn(1)] * 3


def test_a_first_start_is_tried_again_for_a_while() -> None:
    """A worker that fell in that time is replaced when the back-off allows; one that falls later
    ends the run, and one that fell earlier does not.
    """
    patient = Limits(start_retry=20.0)
    made = instance((1, Stage.STARTING), phase=Phase.STARTING, begun=100.0, not_before=106.0)
    made.workers[1].started = 100.0
    made.workers[1].feed(WorkerInput.EXIT, 105.0)
    assert plan(made, {}, LIMITS, 105.0) == [GiveUp("worker 1.1 (pid 101) ")]
    assert plan(made, {}, patient, 105.0) == []
    assert plan(made, {}, patient, 106.0) == [Spawn(1)]
    made.not_before = 130.0  # the last one is started when the time is over, and not later
    assert plan(made, {}, patient, 119.0) == []
    assert plan(made, {}, patient, 120.0) == [Spawn(1)]
    made.workers[2] = Worker(2, 1, 102, 106.0)
    assert plan(made, {}, patient, 125.0) == []
    made.workers[2].outcome = "exited with 1"
    made.workers[2].feed(WorkerInput.EXIT, 126.0)
    assert plan(made, {}, patient, 126.0) == [GiveUp("worker 1.2 (pid 102) exited with 1")]


def test_who_is_late_is_told_with_what_it_lacked() -> None:
    """In the first generation, in a newcomer's, and where a replacement is stopped."""
    limits, lacked = Limits(ready_timeout=5.0), "GET /h was answered 400"
    late = "was not ready after 5 s: GET /h was answered 400"
    made = instance((1, Stage.STARTING), phase=Phase.STARTING)
    made.workers[1].missing = lacked
    assert plan(made, {}, limits, 5.0) == [GiveUp(f"worker 1.1 (pid 101) {late}")]
    made.phase = Phase.SERVING
    assert Stop(1, f"it {late}") in plan(made, {}, limits, 5.0)
    made = instance((1, Stage.SERVING), (2, Stage.STARTING), phase=Phase.RENEWING, newcomer=2)
    made.workers[2].missing = lacked
    assert plan(made, {}, limits, 5.0) == [Abandon(2, f"worker 2.2 (pid 102) {late}")]


def test_who_is_late_at_a_first_start_is_replaced() -> None:
    """It is told to stop; only one that is late when that time is over ends the run."""
    patient = Limits(start_retry=200.0, ready_timeout=5.0)
    made = instance((1, Stage.STARTING), phase=Phase.STARTING, begun=100.0)
    made.workers[1].started = 100.0
    assert plan(made, {}, patient, 105.0) == [Stop(1, "it was not ready after 5 s")]
    made.workers[1].feed(WorkerInput.STOP, 105.0)
    assert plan(made, {}, patient, 105.0) == []
    made.workers[1].feed(WorkerInput.EXIT, 301.0)
    assert plan(made, {}, patient, 301.0) == [Spawn(1)]
    made.workers[2] = Worker(2, 1, 102, 301.0)
    assert plan(made, {}, patient, 306.0) == [
        GiveUp("worker 1.2 (pid 102) was not ready after 5 s")
    ]


def test_the_flip_waits_for_every_newcomer() -> None:
    """One that is not ready holds the flip back; when all are, it is due."""
    made = instance(
        (1, Stage.SERVING), (2, Stage.STANDBY), (2, Stage.STARTING), size=2, phase=Phase.RENEWING,
        newcomer=2, not_before=9.0,
    )  # fmt: skip
    assert steps(made) == []
    made.workers[3].stage = Stage.STANDBY
    assert steps(made) == [Flip(2, ((2, 1.0), (3, 1.0)))]


def test_newcomers_that_were_replaced_are_stopped_before_others_start() -> None:
    """Ready or not; those of them that had a share are drained like any."""
    made = instance(
        (1, Stage.SERVING), (2, Stage.STANDBY), (2, Stage.STARTING), phase=Phase.RENEWING,
        newcomer=3,
    )  # fmt: skip
    assert steps(made) == [
        Stop(2, "its generation is given up"),
        Stop(3, "its generation is given up"),
    ]
    made = instance((1, Stage.SERVING), (2, Stage.SERVING), phase=Phase.SERVING)
    assert steps(made) == [Share(((1, 1.0),))]


def test_a_flip_to_a_canary_has_the_weights_of_a_canary() -> None:
    """The instance is a canary's then, and the old generation works on."""
    made = instance(
        (1, Stage.SERVING), (2, Stage.STANDBY), phase=Phase.RENEWING, newcomer=2,
        renewal=Renewal(10.0),
    )  # fmt: skip
    assert steps(made) == [Flip(2, ((1, 90.0), (2, 10.0)))]
    after = flipped(made, 2)
    assert (after.phase, after.working, after.newcomer) == (Phase.CANARY, 1, 2)
    assert made.phase is Phase.RENEWING


def test_after_the_flip_new_connections_go_to_the_new_generation_only() -> None:
    """The shares name every new worker and no old one."""
    made = instance((1, Stage.SERVING), (2, Stage.STANDBY), working=2)
    assert steps(made) == [Share(((2, 1.0),))]


def test_a_canary_shares_by_percent() -> None:
    """Ten percent to the newcomer, ninety between the two old ones."""
    made = instance(
        (1, Stage.SERVING), (1, Stage.SERVING), (2, Stage.STANDBY), (2, Stage.STANDBY),
        size=2, phase=Phase.CANARY, newcomer=2, renewal=Renewal(10.0),
    )  # fmt: skip
    assert steps(made) == [Share(((1, 45.0), (2, 45.0), (3, 5.0), (4, 5.0)))]


def test_factors_are_among_siblings() -> None:
    """Of everything, and of a canary's part; factors that leave nobody are passed over."""
    made = instance((1, Stage.SERVING), (1, Stage.SERVING), size=2)
    made.factors = {2: 0.5}
    assert steps(made) == [Share(((1, 1.0), (2, 0.5)))]
    made.factors = {1: 0.0, 2: 0.0}
    assert steps(made) == []
    made = instance(
        (1, Stage.SERVING), (1, Stage.SERVING), (2, Stage.STANDBY), (2, Stage.STANDBY),
        size=2, phase=Phase.CANARY, newcomer=2, renewal=Renewal(20.0),
    )  # fmt: skip
    made.factors = {1: 3.0, 4: 0.0}
    assert steps(made) == [Share(((1, 60.0), (2, 20.0), (3, 20.0), (4, 0.0)))]


def test_the_balance_is_among_siblings_too() -> None:
    """It multiplies what was ordered; a canary's part stays what it is, a stall changes nothing."""
    serving = [(1, Stage.SERVING), (1, Stage.SERVING)]
    made = instance(*serving, size=2, factors={1: 0.5}, balance={1: 0.5, 2: 1.5})
    assert steps(made) == [Share(((1, 0.25), (2, 1.5)))]
    assert stalled(made, w1=Stall(0.0)) == [Share(((1, 0.0), (2, 1.5)))]
    made = instance(
        *serving, (2, Stage.STANDBY), (2, Stage.STANDBY), size=2, phase=Phase.CANARY, newcomer=2,
        renewal=Renewal(10.0), balance={1: 0.5, 2: 1.5, 4: 0.25},
    )  # fmt: skip
    assert steps(made) == [Share(((1, 22.5), (2, 67.5), (3, 8.0), (4, 2.0)))]
    # It is found out anew after a crash, and so is not worth writing the record for.
    assert not lasting(instance(*serving), Share(((1, 0.5), (2, 1.5))))


@pytest.mark.parametrize("phase", list(Phase))
def test_a_restart_that_waits_begins_when_none_is_at_work(phase: Phase) -> None:
    """One generation serves, and no other is starting or a canary."""
    made = instance((1, Stage.SERVING), phase=phase, queued=Renewal(), newcomer=2)
    assert (Renew() in steps(made)) is (phase is Phase.SERVING)


@pytest.mark.parametrize(
    ("stage", "now"), [(Stage.DRAINING, 1.0), (Stage.DRAINING, 100.0), (Stage.STOPPING, 100.0)]
)
def test_a_worker_that_waits_for_its_answer_is_not_ended(stage: Stage, now: float) -> None:
    """Quiet, or beyond its limits; it is as soon as it has been answered."""
    made = instance((1, stage), (2, Stage.SERVING), working=2)
    for asking, due in (({1}, False), ((), True)):
        found = plan(made, {1: Load()}, LIMITS, now, asking=asking)
        assert any(isinstance(one, Stop | Kill) for one in found) is due


def test_a_stop_ends_a_worker_that_waits_for_its_answer() -> None:
    """The instance stops, and answers nobody any more."""
    made = instance((1, Stage.SERVING), phase=Phase.STOPPING)
    assert plan(made, {}, LIMITS, 1.0, asking={1}) == [Stop(1, "the instance stops")]


def test_a_newcomer_that_dies_is_no_reason_to_touch_the_old() -> None:
    """Its generation is abandoned with the reason, and nothing else is due."""
    made = instance((1, Stage.SERVING), (2, Stage.GONE), phase=Phase.RENEWING, newcomer=2)
    made.workers[2].outcome, made.workers[2].reason = "exited with 1", "; its last words: no"
    told = "; its last words: no"
    assert steps(made) == [Abandon(2, "worker 2.2 (pid 102) exited with 1", told)]


def test_a_newcomer_that_is_late_is_abandoned() -> None:
    """Not ready within the limit is not ready."""
    made = instance((1, Stage.SERVING), (2, Stage.STARTING), phase=Phase.RENEWING, newcomer=2)
    assert steps(made, now=59.9) == []
    assert steps(made, now=60.0) == [Abandon(2, "worker 2.2 (pid 102) was not ready after 60 s")]


def test_a_first_generation_that_fails_ends_the_run() -> None:
    """There is nothing to go on with."""
    made = instance((1, Stage.GONE), phase=Phase.STARTING)
    made.workers[1].outcome = "exited with 3"
    assert steps(made) == [GiveUp("worker 1.1 (pid 101) exited with 3")]
    words = made.workers[1].reason = "; its last words: no such module"
    assert steps(made) == [GiveUp("worker 1.1 (pid 101) exited with 3", words)]


@pytest.mark.parametrize(
    ("held", "quiet"),
    [
        (Load(), True),
        (Load(idle=5), True),
        (Load(queue=1), False),
        (Load(requests=1), False),
        (Load(busy=1), False),
    ],
)
def test_an_old_worker_is_stopped_when_that_cuts_nothing(held: Load, quiet: bool) -> None:
    """Queue, half-open requests and unanswered connections each hold the stop signal back."""
    made = instance((1, Stage.DRAINING), (2, Stage.SERVING), working=2)
    assert steps(made, w1=held) == ([Stop(1, "it is quiet")] if quiet else [])


def test_without_a_look_no_worker_is_called_quiet() -> None:
    """No facts is not the same as nothing held."""
    made = instance((1, Stage.DRAINING), (2, Stage.SERVING), working=2)
    assert steps(made) == []


def test_the_drain_limit_ends_every_wait() -> None:
    """A connection that never ends does not keep the old generation for ever."""
    made = instance((1, Stage.DRAINING), (2, Stage.SERVING), working=2)
    assert steps(made, now=30.0, w1=Load(busy=1)) == [Stop(1, "the drain limit of 30 s passed")]


def test_a_stop_signal_that_is_not_followed_ends_in_a_kill() -> None:
    """After the stop timeout."""
    made = instance((1, Stage.STOPPING), (2, Stage.SERVING), working=2)
    assert steps(made, now=9.9) == []
    assert steps(made, now=10.0) == [Kill(1)]


def test_the_stop_timeout_is_for_what_comes_after_the_last_connection() -> None:
    """A response that ended late leaves a worker as much time for its own end as any other."""
    made = instance((1, Stage.STOPPING), (2, Stage.SERVING), working=2)
    assert steps(made, now=15.0, w1=Load(busy=1)) == []
    assert steps(made, now=15.1, w1=Load(empty_since=15.1)) == []
    assert steps(made, now=25.0, w1=Load(empty_since=15.1)) == []
    assert steps(made, now=25.1, w1=Load(empty_since=15.1)) == [Kill(1)]
    # No longer than it was promised for its connections.
    assert steps(made, now=29.9, w1=Load(empty_since=25.0)) == []
    assert steps(made, now=30.0, w1=Load(empty_since=25.0)) == [Kill(1)]


def test_one_that_hangs_may_answer_what_it_has_accepted() -> None:
    """It is told to stop at once, and with connections it has its whole drain time."""
    made = instance((1, Stage.STOPPING), (2, Stage.SERVING), working=2)
    made.workers[1].hangs = True
    assert steps(made, now=29.9, w1=Load(busy=1)) == []
    assert steps(made, now=30.0, w1=Load(busy=1)) == [Kill(1)]


def test_a_kept_generation_is_not_stopped_while_kept() -> None:
    """--keep: quiet or not, it stays for a rollback, and the drain limit starts after it."""
    made = instance((1, Stage.DRAINING), (2, Stage.SERVING), working=2, renewal=Renewal(keep=20.0))
    assert steps(made, now=19.0, w1=Load()) == []
    assert steps(made, now=20.0, w1=Load()) == [Stop(1, "it is quiet")]
    assert steps(made, now=49.0, w1=Load(busy=1)) == []
    assert isinstance(steps(made, now=50.0, w1=Load(busy=1))[0], Stop)


def test_a_rollback_takes_draining_workers_back() -> None:
    """The previous generation's workers serve again, quiet or not; then the missing are spawned."""
    made = instance((1, Stage.DRAINING), (2, Stage.SERVING), size=2)
    assert steps(made, w1=Load()) == [Share(((1, 1.0),))]
    perform(made, Share(((1, 1.0),)), 1.0)
    assert made.workers[1].stage is Stage.SERVING
    assert steps(made, w1=Load()) == [Spawn(1)]


def test_a_crashed_worker_is_replaced_when_the_backoff_allows() -> None:
    """Not before; and the shares leave the dead one out at once."""
    made = instance((1, Stage.SERVING), (1, Stage.SERVING), size=2, not_before=5.0)
    made.workers[1].feed(WorkerInput.EXIT, 1.0)
    assert steps(made, now=1.0) == [Share(((2, 1.0),))]
    made.shared = ((2, 1.0),)
    assert steps(made, now=5.0) == [Spawn(1)]


def test_while_nobody_can_serve_the_shares_stay() -> None:
    """What arrives waits in the held listeners instead of being sent nowhere."""
    made = instance((1, Stage.SERVING), not_before=5.0)
    made.workers[1].feed(WorkerInput.EXIT, 1.0)
    assert steps(made, now=1.0) == []


def test_a_crash_loop_gives_up_only_when_nobody_serves() -> None:
    """With a limit of ten, eleven deaths in a minute end the run; with one worker serving, or
    without a limit, they do not.
    """
    crashes, ten = [float(n) for n in range(11)], Limits(crash_limit=10)
    made = instance(crashes=crashes, size=2)
    assert any(isinstance(move, GiveUp) for move in plan(made, {}, ten, 11.0))
    assert steps(made, now=11.0) == [Spawn(1)] * 2
    made = instance((1, Stage.SERVING), crashes=crashes, size=2)
    assert plan(made, {}, ten, 11.0) == [Spawn(1)]


def test_scaling_down_drains_the_youngest() -> None:
    """One too many loses its share and is then drained like an old one."""
    made = instance((1, Stage.SERVING), (1, Stage.SERVING), size=1)
    assert steps(made) == [Share(((1, 1.0),))]


@pytest.mark.parametrize("stage", [Stage.STARTING, Stage.STANDBY])
def test_who_comes_too_late_is_stopped(stage: Stage) -> None:
    """A replacement of the old generation, begun before the flip, is not needed after it; nor is
    one too many of the working one.
    """
    made = instance((1, stage), (2, Stage.SERVING), working=2)
    assert steps(made) == [Stop(1, "its generation serves no more")]
    made = instance((1, Stage.SERVING), (1, stage))
    assert steps(made) == [Stop(2, "it is one too many")]


def test_a_finisher_takes_nothing_new() -> None:
    """It is retired as soon as it is ready, and counts for no size."""
    made = instance((1, Stage.SERVING), (1, Stage.STANDBY))
    made.workers[2].finisher = True
    assert steps(made) == [Retire(2)]


def leaving(*stages: tuple[int, Stage], at: float = 0.0, by: float = 0.0) -> Instance:
    """An instance that was told to stop at 0, and refuses new connections from ``at`` on."""
    return instance(*stages, phase=Phase.LEAVING, refuse_at=at, stop_by=by)


def test_new_connections_are_refused_before_anybody_is_told_to_stop() -> None:
    """At once, or when the time to serve on is over; until then crashed workers are replaced."""
    assert steps(leaving((1, Stage.SERVING))) == [Refuse()]
    made = leaving((1, Stage.SERVING), at=5.0)
    assert steps(made, 4.9) == []
    assert steps(made, 5.0) == [Refuse()]
    assert deadline(made, LIMITS, 4.0) == 5.0
    made.workers[1].feed(WorkerInput.EXIT, 1.0)
    assert steps(made, 1.0) == [Spawn(1)]


def test_newcomers_of_an_instance_that_leaves_are_stopped() -> None:
    """Nobody waits for them any more; the working generation serves on."""
    made = instance((1, Stage.SERVING), (2, Stage.STARTING), phase=Phase.RENEWING, newcomer=2)
    made.leave(InstanceInput.STOP, 0.0, delay=5.0, limit=0.0)
    assert steps(made) == [Stop(2, "its generation is given up")]


@pytest.mark.parametrize(
    ("has", "now", "told"),
    [
        (None, 0.5, False),  # nobody has looked yet
        (Load(queue=1), 29.0, False),
        (Load(untouched=1, busy=1), 29.0, False),
        (Load(requests=1), 0.5, False),
        (Load(requests=1), 1.5, True),  # that client has gone
        (Load(busy=3, idle=4), 0.5, True),  # it knows of these, and finishes them
        (Load(queue=1), 30.0, True),
        (None, 30.0, True),
    ],
)
def test_a_worker_is_told_to_stop_when_nobody_waits_for_it(
    has: Load | None, now: float, told: bool
) -> None:
    """Whom the kernel has accepted is served: waiting, unread or half-open, up to the limit."""
    made = instance((1, Stage.DRAINING), phase=Phase.STOPPING)
    found = steps(made, now, **({} if has is None else {"w1": has}))
    assert [type(one) for one in found] == [Stop] * told


def test_one_that_does_not_accept_holds_up_no_other() -> None:
    """Each is told when its own listeners are empty; one that never served, at once."""
    made = instance(
        (1, Stage.DRAINING), (1, Stage.DRAINING), (2, Stage.STARTING), phase=Phase.STOPPING
    )
    found = steps(made, w1=Load(queue=1), w2=Load())
    assert found == [Stop(2, "the instance stops"), Stop(3, "the instance stops")]


def test_at_the_end_of_the_stop_limit_everybody_is_killed() -> None:
    """Whatever waits, whatever was promised; and the limits before it are fitted into it."""
    limits = Limits(stop_limit=9.0)
    made = instance((1, Stage.DRAINING), (1, Stage.STOPPING), phase=Phase.STOPPING, stop_by=9.0)
    loads = {1: Load(queue=1), 2: Load(busy=1)}
    assert plan(made, loads, limits, 6.7) == []
    assert deadline(made, limits, 6.7) == 6.75
    assert plan(made, loads, limits, 6.75) == [
        Stop(1, "it needs the rest of the stop limit of 9 s")
    ]
    assert plan(made, {1: Load(), 2: Load()}, limits, 2.3)[-1] == Kill(2)  # it has nobody
    assert deadline(made, limits, 6.8) == 9.0
    late = plan(made, loads, limits, 9.0)
    assert late == [Stop(1, "the stop limit of 9 s passed"), Kill(2)]
    made.workers[1].feed(WorkerInput.STOP, 9.0)
    made.workers[2].feed(WorkerInput.KILL, 9.0)
    assert plan(made, loads, limits, 9.0) == [Kill(1)]


def test_an_instance_that_stops_ends_with_its_last_worker() -> None:
    """Nobody is told twice."""
    made = instance((1, Stage.DRAINING), (2, Stage.STARTING), phase=Phase.STOPPING)
    assert [type(one) for one in steps(made, w1=Load())] == [Stop, Stop]
    for one in made.living:
        one.feed(WorkerInput.STOP, 1.0)
    assert steps(made) == []
    for one in made.living:
        one.feed(WorkerInput.EXIT, 1.0)
    assert steps(made) == [End()]


def test_the_deadline_is_the_next_limit() -> None:
    """Nothing to wait for is forever; otherwise the first limit that has not passed."""
    assert deadline(instance((1, Stage.SERVING)), LIMITS, 1.0) == FOREVER
    assert deadline(instance((1, Stage.STARTING)), LIMITS, 1.0) == 60.0
    assert deadline(instance((1, Stage.STOPPING)), LIMITS, 1.0) == 10.0
    assert deadline(instance((1, Stage.DRAINING)), LIMITS, 1.0) == 30.0


def perform(made: Instance, step: Step, now: float) -> None:
    """What the runner does to the state for a move, with processes that obey at once."""
    match step:
        case Spawn(generation):
            made.last_worker += 1
            made.workers[made.last_worker] = Worker(
                made.last_worker, generation, 1, now, stage_since=now
            )
        case Flip(generation, weights):
            after = flipped(made, generation)
            made.feed(InstanceInput.CANARY if after.phase is Phase.CANARY else InstanceInput.READY)
            assert made.phase is after.phase
            made.working, made.newcomer = after.working, after.newcomer
            perform(made, Share(weights), now)
        case Share(weights) | Advance(weights):
            made.shared = weights
            given_share = dict(weights)
            for one in made.living:
                if one.id in given_share and one.stage in {Stage.STANDBY, Stage.DRAINING}:
                    one.feed(WorkerInput.SHARE, now)
                elif one.id not in given_share and one.stage is Stage.SERVING:
                    one.feed(WorkerInput.UNSHARE, now)
        case Replace(worker, why, hangs):
            made.workers[worker].outgoing, made.workers[worker].hangs = why, hangs
        case Stop(worker, _):
            made.workers[worker].feed(WorkerInput.STOP, now)
        case Kill(worker):
            made.workers[worker].feed(WorkerInput.KILL, now)
            made.workers[worker].feed(WorkerInput.EXIT, now)
        case Abandon(generation, _):
            made.feed(InstanceInput.FAILED)
            assert made.newcomer == generation
            made.newcomer = None
        case GiveUp(_):
            made.leave(InstanceInput.FAILED, now, delay=0.0, limit=0.0)
        case Retire(worker):
            made.workers[worker].feed(WorkerInput.UNSHARE, now)
        case Refuse():
            made.feed(InstanceInput.REFUSE)
            for one in made.living:
                if one.stage in {Stage.STANDBY, Stage.SERVING}:
                    one.feed(WorkerInput.UNSHARE, now)
        case End():
            made.feed(InstanceInput.EMPTY)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ready", "exit", "restart", "tick", "scale", "promote", "stop", "hang"]),
        st.integers(0, 7),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.integers(1, 3))
def test_whatever_happens_somebody_serves_or_is_being_started(
    events: list[tuple[str, int]], size: int
) -> None:
    """Under any order of events the plan settles, obeys the tables, and never leaves an instance
    that should serve without a worker that serves, is ready, or may still become so.
    """
    made, now, limits = Instance(size=size), 0.0, Limits(stall_kill=1.0)
    for event, number in events:
        now += 0.5
        stalls: dict[int, Stall] = {}
        living = made.living
        one = living[number % len(living)] if living else None
        if event == "ready" and one and one.stage is Stage.STARTING:
            one.feed(WorkerInput.READY, now)
        elif event == "exit" and one:
            one.outcome = "exited with 1"
            one.feed(WorkerInput.EXIT, now)
        elif event == "restart" and made.phase is Phase.SERVING:
            made.feed(InstanceInput.RESTART)
            made.last_generation += 1
            made.newcomer = made.last_generation
        elif event == "scale" and made.phase is Phase.SERVING:
            made.feed(InstanceInput.SCALE)
            made.size = 1 + number % 3
        elif event == "hang" and one:
            stalls[one.id] = Stall(now - 1.0, total=1.0)
        elif event == "stop" and number < 2 and made.phase not in ENDING:
            made.leave(InstanceInput.STOP, now, delay=float(number), limit=0.0)
        for _ in range(20):
            due = plan(made, {each.id: Load() for each in made.living}, limits, now, Health(stalls))
            if not due:
                break
            for step in due:
                perform(made, step, now)
        else:
            pytest.fail(f"the plan never settles: {due}")
        if made.phase in {Phase.SERVING, Phase.RENEWING, Phase.CANARY, Phase.LEAVING}:
            assert made.of(made.working, Stage.STARTING, Stage.STANDBY, Stage.SERVING)


def test_an_instance_survives_being_written_down() -> None:
    """What is read from JSON is what was written, stages and holds included."""
    made = instance((1, Stage.DRAINING), (2, Stage.SERVING), working=2, crashes=[1.5])
    made.workers[1].listeners = (HeldListener(0, 1, 2), HeldListener(1, 2, 3))
    made.starts = {2: Start("/srv/current", "/srv/releases/2", "/usr/bin/server", 1.5)}
    assert Instance.from_json(json.loads(json.dumps(made.to_json()))) == made


def stalled(made: Instance, **stalls: Stall) -> list[Step]:
    facts = {int(key[1:]): value for key, value in stalls.items()}
    return plan(made, {}, Limits(stall_kill=5.0), 1.0, Health(facts))


def test_a_stalled_worker_gets_nothing_new_and_its_queue_is_moved() -> None:
    """First the share, then the queue; it stays a serving worker, so nothing drains or spawns."""
    made = instance((1, Stage.SERVING), (1, Stage.SERVING), size=2)
    shares = ((1, 0.0), (2, 1.0))
    assert stalled(made, w1=Stall(0.5, queue=3)) == [Share(shares)]
    made.shared = shares
    assert stalled(made, w1=Stall(0.5, queue=3)) == [Rescue(1)]
    assert stalled(made, w1=Stall(0.5, queue=3, not_before=1.1)) == []
    assert stalled(made, w1=Stall(0.5)) == []


def test_a_stall_is_not_written_down() -> None:
    """It takes longer to write than a queue to move; who serves is as before."""
    made = instance((1, Stage.SERVING), (1, Stage.SERVING), size=2)
    assert not lasting(made, Share(((1, 0.0), (2, 1.0))))
    assert not lasting(made, Rescue(1))
    assert lasting(made, Share(((2, 1.0), (3, 1.0))))
    assert lasting(made, Spawn(1))


def test_a_worker_that_is_awake_gets_its_share_back() -> None:
    """Nothing else is due."""
    made = instance((1, Stage.SERVING), (1, Stage.SERVING), size=2)
    made.shared = ((1, 0.0), (2, 1.0))
    assert steps(made) == [Share(((1, 1.0), (2, 1.0)))]


def test_when_all_are_stalled_the_shares_are_equal_and_nothing_is_moved() -> None:
    """There is nobody to move to."""
    made = instance((1, Stage.SERVING), (1, Stage.SERVING), size=2)
    assert stalled(made, w1=Stall(0.5, queue=3), w2=Stall(0.5, queue=3)) == []


def test_the_part_of_a_stalled_worker_goes_to_its_generation_first() -> None:
    """With nobody of its generation awake it goes to the others, as under segue attach."""
    made = instance(
        (1, Stage.SERVING), (1, Stage.SERVING), (2, Stage.STANDBY),
        size=2, phase=Phase.CANARY, newcomer=2, renewal=Renewal(10.0),
    )  # fmt: skip
    facts = {"w1": Stall(0.5), "w3": Stall(0.5)}
    assert stalled(made, **facts) == [Share(((1, 0.0), (2, 90.0), (3, 0.0)))]
    assert stalled(made, w1=Stall(0.5)) == [Share(((1, 0.0), (2, 90.0), (3, 10.0)))]


def test_a_draining_worker_that_stalls_is_rescued_too() -> None:
    """It has no share to lose."""
    made = instance((1, Stage.DRAINING), (2, Stage.SERVING), working=2)
    assert stalled(made, w1=Stall(0.5, queue=1)) == [Rescue(1)]


def test_one_that_is_stalled_too_long_is_replaced_successor_first() -> None:
    """When the seconds are over; it is told to stop as soon as another one has its share."""
    made = instance((1, Stage.SERVING), (1, Stage.SERVING), size=2)
    made.shared = ((1, 0.0), (2, 1.0))
    assert stalled(made, w1=Stall(0.5, total=4.9)) == []
    stall, why = Stall(0.5, total=5.0), "it was stalled for 5.0 of the last 50 s"
    assert stalled(made, w1=stall) == [Replace(1, why, hangs=True)]
    perform(made, Replace(1, why, hangs=True), 1.0)
    assert stalled(made, w1=stall) == [Spawn(1)]
    perform(made, Spawn(1), 1.0)
    assert stalled(made, w1=stall) == []
    made.workers[3].feed(WorkerInput.READY, 1.0)
    assert stalled(made, w1=stall) == [Share(((2, 1.0), (3, 1.0)))]
    perform(made, Share(((2, 1.0), (3, 1.0))), 1.0)
    assert stalled(made, w1=stall) == [Stop(1, why)]


def test_workers_are_replaced_one_at_a_time() -> None:
    """The next one when the successor of the one before serves."""
    made = instance((1, Stage.SERVING), (1, Stage.SERVING), size=2)
    both = {"w1": Stall(0.5, total=6.0), "w2": Stall(0.5, total=6.0)}
    first = Replace(1, "it was stalled for 6.0 of the last 50 s", hangs=True)
    assert stalled(made, **both) == [first]
    perform(made, first, 1.0)
    perform(made, Spawn(1), 1.0)
    assert stalled(made, **both) == []
    made.workers[3].feed(WorkerInput.READY, 1.0)
    [share] = stalled(made, **both)
    perform(made, share, 1.0)
    assert replace(first, worker=2) in stalled(made, **both)


def test_a_worker_whose_successor_does_not_start_keeps_its_share() -> None:
    """Its successor is tried again; it is one too many itself where fewer are wanted."""
    made = instance((1, Stage.SERVING), (1, Stage.STARTING))
    made.workers[1].outgoing = "it is old"
    made.workers[2].feed(WorkerInput.EXIT, 1.0)
    made.not_before = 5.0
    assert steps(made) == []
    assert steps(made, now=5.0) == [Spawn(1)]
    made = instance((1, Stage.SERVING), (1, Stage.SERVING))
    made.workers[1].outgoing = "it is old"
    assert steps(made) == [Share(((2, 1.0),))]


def test_a_replaced_worker_that_does_not_hang_drains_as_usual() -> None:
    """It is told to stop when it is quiet."""
    made = instance((1, Stage.DRAINING), (1, Stage.SERVING))
    made.workers[1].outgoing = "it is old"
    assert steps(made, w1=Load(busy=1)) == []
    assert steps(made, w1=Load()) == [Stop(1, "it is quiet")]


def test_a_canary_that_stalls_too_long_is_given_up() -> None:
    """And during a restart nobody is replaced: the restart does it."""
    made = instance(
        (1, Stage.SERVING), (2, Stage.SERVING), phase=Phase.CANARY, newcomer=2,
        renewal=Renewal(10.0),
    )  # fmt: skip
    made.shared = ((1, 90.0), (2, 0.0))
    [given_up] = stalled(made, w2=Stall(0.5, total=5.0))
    why = "worker 2.2 (pid 102): it was stalled for 5.0 of the last 50 s"
    assert given_up == Abandon(2, why)
    made = instance((1, Stage.SERVING), (2, Stage.STARTING), phase=Phase.RENEWING, newcomer=2)
    assert stalled(made, w1=Stall(0.5, total=5.0)) == []
