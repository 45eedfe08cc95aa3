"""A restart in steps: facts in, steps out, no process in sight."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.supervisor.test_plan import LIMITS, instance, perform

from segue.supervisor.lifecycle.health import Health, Stall
from segue.supervisor.lifecycle.instance import Instance, Renewal, Worker
from segue.supervisor.lifecycle.limits import Limits
from segue.supervisor.lifecycle.newcomers import excused, mixture, progress
from segue.supervisor.lifecycle.plan import Load, plan
from segue.supervisor.lifecycle.seats import seats, shares
from segue.supervisor.lifecycle.stages import InstanceInput, Phase, Stage, WorkerInput
from segue.supervisor.lifecycle.steps import (
    Abandon,
    Advance,
    Refuse,
    Share,
    Spawn,
    Step,
    Stop,
)

SERVING, DRAINING, STARTING, STANDBY = (
    *(Stage.SERVING, Stage.DRAINING, Stage.STARTING, Stage.STANDBY),
)


def stepping(*stages: tuple[int, Stage], size: int = 4, step: int = 1) -> Instance:
    """An instance in the middle of a restart in steps, from generation 1 to generation 2."""
    made = instance(
        *stages, size=size, phase=Phase.RENEWING, newcomer=2, renewal=Renewal(step=step)
    )
    made.last_generation = 2
    return made


def steps(made: Instance, now: float = 1.0, limits: Limits = LIMITS) -> list[Step]:
    """What is due, where workers that drain or stop have nothing left but the busy ones."""
    return plan(made, {}, limits, now)


def settle(made: Instance, now: float, busy: frozenset[int] = frozenset()) -> list[Step]:
    """Perform all that is due, with workers that drain at once unless they are busy."""
    done: list[Step] = []
    for _ in range(20):
        loads = {one.id: Load(busy=int(one.id in busy)) for one in made.living}
        due = plan(made, loads, LIMITS, now)
        if not due:
            return done
        for one in due:
            perform(made, one, now)
        done += due
    pytest.fail(f"the plan never settles: {due}")


def serving(made: Instance) -> dict[int, int]:
    """How many workers of each generation have a share."""
    of = [made.workers[worker].generation for worker, _ in made.shared]
    return {generation: of.count(generation) for generation in sorted(set(of))}


def ready(made: Instance, now: float) -> None:
    for one in made.living:
        if one.stage is STARTING:
            one.feed(WorkerInput.READY, now)


def end(made: Instance, now: float, code: str = "exited with 0") -> None:
    """Whoever was told to stop ends."""
    for one in made.living:
        if one.stage is Stage.STOPPING:
            one.outcome = code
            one.feed(WorkerInput.EXIT, now)


@pytest.mark.parametrize(("size", "step"), [(4, 1), (4, 3), (5, 2), (2, 1), (1, 1), (3, 8)])
def test_generations_change_places_step_by_step(size: int, step: int) -> None:
    """Never more than size + step workers live, never fewer than size serve, and the instance is
    as after a restart at the end.
    """
    made = stepping(*[(1, SERVING)] * size, size=size, step=step)
    now, seen = 0.0, []
    while made.phase is Phase.RENEWING:
        now += 1.0
        settle(made, now)
        assert len(made.living) <= size + step
        ready(made, now)
        settle(made, now)
        assert len(made.living) <= size + step
        assert sum(serving(made).values()) == size
        assert len({weight for _, weight in made.shared}) == 1
        seen.append(serving(made).get(2, 0))
        end(made, now)
    assert seen == [min(size, step * (number + 1)) for number in range(-(-size // step))]
    assert (made.working, made.newcomer, serving(made)) == (2, None, {2: size})
    settle(made, now)
    assert made.settled


def test_the_next_step_waits_for_the_old_workers_of_this_one() -> None:
    """While one of them finishes, or has its stop signal, nobody is started."""
    made = stepping((1, SERVING), (1, SERVING), (1, SERVING), (1, SERVING))
    assert steps(made) == [Spawn(2)]
    settle(made, 1.0)
    ready(made, 1.0)
    assert steps(made) == [Advance(((1, 1.0), (2, 1.0), (3, 1.0), (5, 1.0)))]
    settle(made, 1.0, busy=frozenset({4}))
    assert made.workers[4].stage is DRAINING
    assert progress(made) == ("step 1 of 4: 1 of 4 worker(s) are of generation 2; old ones finish")
    settle(made, 2.0)
    assert made.workers[4].stage is Stage.STOPPING
    assert steps(made) == []
    end(made, 2.0)
    assert steps(made) == [Spawn(2)]
    settle(made, 2.0)
    assert progress(made) == "step 2 of 4: 1 of 4 worker(s) are of generation 2; new ones start"


def test_workers_of_an_earlier_restart_are_waited_for_before_the_first_step() -> None:
    """They take memory too."""
    made = stepping((1, SERVING), (1, SERVING), size=2)
    made.working, made.newcomer = 2, 3
    for one in made.living:
        one.generation = 2
    made.workers[9] = Worker(9, 1, 109, 0.0, stage=DRAINING)
    assert steps(made) == []
    assert progress(made).startswith("step 1 of 2: 0 of 2")
    del made.workers[9]
    assert steps(made) == [Spawn(3)]


def test_every_worker_of_a_mixture_has_a_fair_part() -> None:
    """Factors and stalls count as among workers of one generation."""
    made = stepping((1, SERVING), (1, SERVING), (1, SERVING), (1, DRAINING), (2, SERVING))
    assert steps(made) == []
    made.factors, made.balance = {5: 0.5}, {1: 2.0}
    assert steps(made) == [Share(((1, 2.0), (2, 1.0), (3, 1.0), (5, 0.5)))]
    facts = {5: Stall(0.5)}
    assert shares(made, facts) == ((1, 2.0), (2, 1.0), (3, 1.0), (5, 0.0))


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (lambda made: fall(made, 6), "worker 2.6 (pid 106) exited with 7"),
        (lambda made: fall(made, 5), "worker 2.5 (pid 105) exited with 7"),
        (lambda made: setattr(made.workers[5], "fault", "has shut down"), "worker 2.5 (pid 105)"),
        (lambda made: setattr(made.workers[6], "started", -99.0), "was not ready after 60 s"),
    ],
)
def test_one_newcomer_that_fails_gives_all_of_them_up(
    happens: Callable[[Instance], None], why: str
) -> None:
    """Whether it starts or serves already."""
    made = stepping((1, SERVING), (1, SERVING), (1, SERVING), (2, SERVING), (2, STARTING))
    made.workers = {one.id + 1 if one.generation == 2 else one.id: one for one in made.living}
    for number, one in made.workers.items():
        one.id, one.pid = number, 100 + number
    made.shared = shares(made)
    happens(made)
    (due,) = steps(made)
    assert isinstance(due, Abandon)
    assert why in due.why


def fall(made: Instance, worker: int) -> None:
    made.workers[worker].outcome = "exited with 7"
    made.workers[worker].feed(WorkerInput.EXIT, 1.0)


def restart(made: Instance, step: int) -> None:
    """A restart in steps, in the place of the one that is at work if there is one."""
    if made.phase is Phase.RENEWING:
        made.feed(InstanceInput.ROLLBACK)
    made.feed(InstanceInput.RESTART)
    made.last_generation += 1
    made.newcomer, made.renewal = made.last_generation, Renewal(step=step)


def given_up(*stages: tuple[int, Stage], step: int = 1) -> Instance:
    """The same, after a newcomer has failed."""
    made = stepping(*stages, step=step)
    made.feed(InstanceInput.FAILED)
    made.newcomer = None
    return made


def test_what_was_given_up_serves_until_the_old_generation_is_complete() -> None:
    """Step by step as well: an old worker is started, is ready, and takes the place of one."""
    made = given_up((1, SERVING), (1, SERVING), (2, SERVING), (2, SERVING))
    assert mixture(made) == (
        "2 worker(s) of generation 1 and 2 worker(s) of generation 2 serve until generation 1 is"
        " complete again"
    )
    assert steps(made) == [Spawn(1)]
    settle(made, 1.0)
    assert serving(made) == {1: 2, 2: 2}
    ready(made, 1.0)
    settle(made, 1.0)
    assert serving(made) == {1: 3, 2: 1}
    assert steps(made) == []  # one of generation 2 has not ended yet
    end(made, 1.0)
    settle(made, 2.0)
    ready(made, 2.0)
    settle(made, 2.0)
    assert serving(made) == {1: 4}
    assert mixture(made) == ""
    end(made, 2.0)
    assert made.settled


def test_old_workers_that_have_not_ended_yet_come_back_at_once() -> None:
    """Then nobody has to be started for them."""
    made = given_up((1, SERVING), (1, SERVING), (1, SERVING), (1, DRAINING), (2, SERVING))
    assert steps(made) == [Share(((1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)))]


def test_starts_that_fail_leave_the_mixture_as_it_is() -> None:
    """At the pace of a back-off, and the newcomers that serve go on."""
    made = given_up((1, SERVING), (1, SERVING), (1, SERVING), (2, SERVING))
    made.not_before = 9.0
    assert steps(made) == []
    assert steps(made, 9.0) == [Spawn(1)]
    assert serving(made) == {1: 3, 2: 1}


def test_who_starts_when_it_is_given_up_is_stopped_before_old_ones_are_started() -> None:
    """Else there would be more workers than the memory is for."""
    made = given_up((1, SERVING), (1, SERVING), (1, SERVING), (2, SERVING), (2, STARTING))
    assert steps(made) == [Stop(5, "its generation is given up")]
    settle(made, 1.0)
    assert steps(made) == []
    end(made, 1.0)
    assert steps(made) == [Spawn(1)]


def test_an_old_worker_that_dies_in_the_middle_is_replaced() -> None:
    """By a newcomer if one starts, else by one of its own generation, but never by too many."""
    made = stepping((1, SERVING), (1, SERVING), (1, SERVING), (2, SERVING), (2, STARTING))
    assert seats(made) == 3
    made.workers[3].feed(WorkerInput.EXIT, 1.0)
    assert settle(made, 1.0) == [Share(((1, 1.0), (2, 1.0), (4, 1.0)))]
    ready(made, 2.0)
    assert settle(made, 2.0) == [Advance(((1, 1.0), (2, 1.0), (4, 1.0), (5, 1.0))), Spawn(2)]
    made = stepping((1, SERVING), (1, SERVING), (1, DRAINING), (2, SERVING))
    assert steps(made) == [Share(((1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)))]
    made.workers[3].stage = Stage.STOPPING
    assert steps(made) == [Spawn(1)]
    made.workers[9] = Worker(9, 1, 109, 0.0, stage=Stage.STOPPING)
    assert steps(made) == []


@pytest.mark.parametrize(("spent", "told"), [(True, False), (False, True)])
def test_a_newcomer_that_used_up_its_quota_is_no_failure(spent: bool, told: bool) -> None:
    """Nor is one that was told to stop; another newcomer gets its place."""
    made = stepping((1, SERVING), (1, SERVING), (1, SERVING), (2, SERVING))
    made.workers[4].spent, made.workers[4].stop_requested = spent, told
    made.workers[4].feed(WorkerInput.EXIT, 1.0)
    assert excused(made, made.workers[4], LIMITS)
    assert Spawn(2) in steps(made)
    made.renewal = Renewal()
    assert not excused(made, made.workers[4], LIMITS)


def test_a_newcomer_that_stalls_for_too_long_gives_all_of_them_up() -> None:
    """An old one is replaced by the next step anyway."""
    made = stepping((1, SERVING), (1, SERVING), (1, SERVING), (2, SERVING), (2, STARTING))
    limits = Limits(stall_kill=5.0)
    made.shared = shares(made, {1})
    assert plan(made, {}, limits, 1.0, Health({1: Stall(0.0, total=6.0)})) == []
    made.shared = shares(made, {4})
    (due,) = plan(made, {}, limits, 1.0, Health({4: Stall(0.0, total=6.0)}))
    assert isinstance(due, Abandon)
    assert "was stalled for 6.0 of the last 50 s" in due.why


@pytest.mark.parametrize(
    ("size", "now_serving"), [(2, {1: 1, 2: 1}), (1, {2: 1}), (6, {1: 3, 2: 1})]
)
def test_the_number_of_workers_may_change_in_the_middle(
    size: int, now_serving: dict[int, int]
) -> None:
    """It ends with as many newcomers as are wanted then."""
    made = stepping((1, SERVING), (1, SERVING), (1, SERVING), (2, SERVING))
    made.feed(InstanceInput.SCALE)
    made.size = size
    settle(made, 1.0)
    assert serving(made) == now_serving
    for second in range(2, 20):
        end(made, float(second))
        ready(made, float(second))
        settle(made, float(second))
    assert made.settled
    assert serving(made) == {2: size}


def test_a_second_restart_in_the_middle_replaces_both_generations() -> None:
    """Newcomers of the first keep their places until others take them."""
    made = stepping((1, SERVING), (1, SERVING), (2, SERVING), (2, STARTING), size=3)
    restart(made, 1)
    settle(made, 1.0)
    assert serving(made) == {1: 2, 2: 1}
    for second in range(2, 20):
        end(made, float(second))
        ready(made, float(second))
        settle(made, float(second))
        assert sum(serving(made).values()) == 3
        assert len(made.living) <= 4
    assert (made.working, serving(made), made.settled) == (3, {3: 3}, True)


def test_a_worker_that_asked_for_the_restart_is_replaced_last() -> None:
    """It is not ended before its answer, so nobody waits for that."""
    made = stepping((1, SERVING), (1, SERVING), (1, SERVING), (2, SERVING), size=3)
    made.workers[4].stage = STANDBY
    (due,) = plan(made, {}, LIMITS, 1.0, asking={3})
    assert due == Advance(((1, 1.0), (3, 1.0), (4, 1.0)))
    (due,) = plan(made, {}, LIMITS, 1.0, asking={1, 2, 3})
    perform(made, due, 1.0)
    assert made.workers[3].stage is DRAINING
    assert plan(made, {}, LIMITS, 1.0, asking={1, 2, 3}) == [Spawn(2)]
    assert plan(made, {}, LIMITS, 1.0) == []


def test_a_stop_in_the_middle_lets_everybody_serve_on() -> None:
    """Until it refuses new connections; only those that start are stopped."""
    made = stepping((1, SERVING), (1, SERVING), (1, SERVING), (2, SERVING), (2, STARTING))
    made.leave(InstanceInput.STOP, 0.0, delay=5.0, limit=0.0)
    assert steps(made) == [Stop(5, "its generation is given up")]
    settle(made, 1.0)
    assert serving(made) == {1: 3, 2: 1}
    assert steps(made, 5.0) == [Refuse()]


def test_what_is_written_down_goes_on_where_it_stood() -> None:
    """A next supervisor starts the next step, and writes the same shares."""
    made = stepping((1, SERVING), (1, SERVING), (1, SERVING), (2, SERVING), step=2)
    read = Instance.from_json(made.to_json())
    assert read == made
    read.shared = ()
    assert settle(read, 1.0) == [Spawn(2), Spawn(2), Share(made.shared)]


def test_without_a_step_the_generations_never_mix() -> None:
    """Newcomers that were given up lose their share at once."""
    made = given_up((1, SERVING), (2, SERVING), step=0)
    assert shares(made) == ((1, 1.0),)
    assert (mixture(made), progress(made)) == ("", "")


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ready", "exit", "gone", "restart", "fail", "scale", "rollback", "stop"]),
        st.integers(0, 7),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.integers(1, 4), st.integers(1, 3))
def test_whatever_happens_it_settles_with_somebody_who_serves(
    events: list[tuple[str, int]], size: int, step: int
) -> None:
    """Under any order of events the plan obeys the tables and the room for workers, and when
    nothing happens any more the working generation is complete.
    """
    made, now = stepping(*[(1, SERVING)] * size, size=size, step=step), 0.0
    most = size
    for event, number in events:
        now += 0.5
        one = made.living[number % len(made.living)] if made.living else None
        if event == "ready" and one and one.stage is STARTING:
            one.feed(WorkerInput.READY, now)
        elif event == "exit" and one and one.stage is Stage.STOPPING:
            one.feed(WorkerInput.EXIT, now)
        elif event == "gone" and one:
            one.spent = one.stage is SERVING
            one.feed(WorkerInput.EXIT, now)
        elif event == "fail" and one:
            one.outcome = "exited with 7"
            one.feed(WorkerInput.EXIT, now)
        elif event == "restart" and made.phase in {Phase.SERVING, Phase.RENEWING}:
            restart(made, step)
        elif event == "scale" and made.phase in {Phase.SERVING, Phase.RENEWING}:
            made.feed(InstanceInput.SCALE)
            made.size = 1 + number % 4
            most = max(most, made.size)
        elif event == "rollback" and made.phase is Phase.RENEWING:
            made.feed(InstanceInput.ROLLBACK)
            made.newcomer = None
        elif event == "stop" and number == 0 and made.phase is not Phase.LEAVING:
            made.leave(InstanceInput.STOP, now, delay=1e9, limit=0.0)
        settle(made, now)
        assert len(made.living) <= most + step
        assert serving(made) or made.of(made.working)
    for _ in range(60):
        now += 0.5
        end(made, now)
        ready(made, now)
        settle(made, now)
    assert sum(serving(made).values()) == made.size
    if made.phase is not Phase.LEAVING:
        assert made.settled
