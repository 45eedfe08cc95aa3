"""Recycling as a decision: which worker, when, what the plan makes of it, and what is said."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from tests.supervisor.test_plan import instance

from segue.supervisor.lifecycle import recycling
from segue.supervisor.lifecycle.health import Health, Stall
from segue.supervisor.lifecycle.instance import Instance, Recycling, Renewal
from segue.supervisor.lifecycle.limits import Limits
from segue.supervisor.lifecycle.plan import Load, plan
from segue.supervisor.lifecycle.stages import InstanceInput, Phase, Stage, WorkerInput
from segue.supervisor.lifecycle.steps import Share, Spawn, Step, Stop

MB = recycling.MB
LIMITS = Limits(max_rss=300 * MB)
BOTH = ((1, Stage.SERVING), (1, Stage.SERVING))
QUIET = Load()


def serving(*sizes: int, **more: object) -> Instance:
    """Workers of generation 1 that have served since the start, with so many MB each."""
    made = instance(*[(1, Stage.SERVING)] * len(sizes), size=len(sizes), **more)
    for worker, size in zip(made.workers.values(), sizes, strict=True):
        worker.memory = size * MB
    return made


def begun(*sizes: int) -> Instance:
    """The first worker is being recycled since 100 s, and its successor starts."""
    made = serving(*sizes)
    assert recycling.look(made, LIMITS, 100.0)
    assert steps(made, 100.0) == [Spawn(1)]
    start(made, 100.0)
    return made


def start(made: Instance, now: float, stage: Stage = Stage.STARTING, *, generation: int = 1) -> int:
    """Another worker starts; its id."""
    other = instance((generation, stage)).workers[1]
    made.last_worker += 1
    other.id, other.started, other.stage_since = made.last_worker, now, now
    made.workers[other.id] = other
    return other.id


def steps(made: Instance, now: float, loads: dict[int, Load] | None = None) -> list[Step]:
    return plan(made, loads or {}, LIMITS, now)


def share(made: Instance, now: float) -> None:
    """Perform the share that is due."""
    (step,) = steps(made, now)
    assert isinstance(step, Share)
    by_worker = dict(step.weights)
    made.shared = step.weights
    for worker in made.living:
        if worker.id in by_worker and worker.stage in {Stage.STANDBY, Stage.DRAINING}:
            worker.feed(WorkerInput.SHARE, now)
        elif worker.id not in by_worker and worker.stage is Stage.SERVING:
            worker.feed(WorkerInput.UNSHARE, now)


def test_a_worker_below_its_limits_is_let_be() -> None:
    """Nothing is said and nothing is planned, and without limits however much it has."""
    made = serving(200, 200)
    assert recycling.look(made, LIMITS, 100.0) == []
    assert made.recycling is None
    made = serving(5000, 5000)
    assert recycling.look(made, Limits(), 1e6) == []
    assert made.recycling is None


@pytest.mark.parametrize("workers", [1, 2])
def test_the_successor_is_ready_before_the_worker_loses_its_share(workers: int) -> None:
    """Start, take over, drain, stop, in the same generation; also where there is one worker."""
    made = serving(*[512, 100][:workers])
    (said,) = recycling.look(made, LIMITS, 100.0)
    assert said.startswith("worker 1.1 (pid 101) is recycled: 512 MB of ")
    assert said.endswith(" (--max-rss 300M); its successor starts")
    assert steps(made, 100.0) == [Spawn(1)]
    successor = start(made, 100.0)
    assert steps(made, 101.0) == []
    made.workers[successor].feed(WorkerInput.READY, 102.0)
    share(made, 102.0)
    assert made.workers[1].stage is Stage.DRAINING
    assert {worker for worker, _ in made.shared} == {*range(2, workers + 1), successor}
    assert steps(made, 103.0, {1: Load(busy=1)}) == []
    assert steps(made, 104.0, {1: QUIET}) == [Stop(1, "it is quiet")]
    assert made.phase is Phase.SERVING


def test_one_at_a_time_and_the_one_that_needs_it_most() -> None:
    """The next begins when the old worker is gone, not when it drains."""
    made = begun(400, 900, 600)
    assert made.recycling is not None
    assert made.recycling.worker == 2
    successor = list(made.workers)[-1]
    made.workers[successor].feed(WorkerInput.READY, 102.0)
    share(made, 102.0)
    assert recycling.look(made, LIMITS, 103.0) == []
    assert made.recycling.worker == 2
    made.workers[2].feed(WorkerInput.EXIT, 104.0)
    assert recycling.look(made, LIMITS, 104.0)
    assert made.recycling.worker == 3


def test_of_several_limits_the_one_that_is_exceeded_most_is_named() -> None:
    """Age, memory and connections, each with its flag."""
    made = serving(310)
    made.workers[1].given = 1500
    limits = Limits(max_rss=300 * MB, max_connections=1000, max_lifetime=3600.0)
    _, why = recycling.excess(made.workers[1], limits, 3600.0)
    assert "1500 of" in why
    assert "connections (--max-connections 1000)" in why
    _, why = recycling.excess(made.workers[1], limits, 36000.0)
    assert why.startswith("36000 s of 3")
    assert why.endswith(" s (--max-lifetime 3600)")


def test_workers_that_started_together_do_not_end_together() -> None:
    """Each has limits of its own, always the same, and none above those of the settings."""
    made = serving(*[1] * 20)
    lives = [
        recycling.limits_of(one, Limits(max_lifetime=1000.0)).max_lifetime
        for one in made.workers.values()
    ]
    assert len(set(lives)) == 20
    assert all(900 <= one <= 1000 for one in lives)
    assert max(lives) - min(lives) > 50
    again = Instance.from_json(json.loads(json.dumps(made.to_json())))
    assert lives == [
        recycling.limits_of(one, Limits(max_lifetime=1000.0)).max_lifetime
        for one in again.workers.values()
    ]


def test_a_limit_of_one_connection_is_one() -> None:
    """However early a worker's own limit is."""
    made = serving(1)
    assert recycling.limits_of(made.workers[1], Limits(max_connections=1)).max_connections == 1
    assert recycling.limits_of(made.workers[1], Limits()).max_connections == 0


def test_recycling_waits_for_a_restart() -> None:
    """It does not begin meanwhile.  One that began has its successor stopped, and goes on if the
    restart fails.
    """
    made = serving(512, 100, phase=Phase.RENEWING, newcomer=2)
    (said,) = recycling.look(made, LIMITS, 100.0)
    assert said.startswith("worker 1.1 (pid 101) is to be recycled (512 MB of ")
    assert said.endswith(", and waits: a restart is under way")
    assert recycling.look(made, LIMITS, 101.0) == []
    assert not any(step == Spawn(1) for step in steps(made, 101.0))

    made = begun(512, 100)
    made.feed(InstanceInput.RESTART)
    made.newcomer = 2
    (said,) = recycling.look(made, LIMITS, 101.0)
    assert said.endswith(", and waits: a restart is under way")
    newcomers = [start(made, 101.0, generation=2), start(made, 101.0, generation=2)]
    assert steps(made, 101.0) == [Stop(3, "it is one too many")]
    assert "waits: a restart is under way" in recycling.sentence(made, made.workers[1])
    made.feed(InstanceInput.FAILED)
    made.newcomer = None
    for gone in (3, *newcomers):
        del made.workers[gone]
    assert recycling.look(made, LIMITS, 102.0)
    assert steps(made, 102.0) == [Spawn(1)]


def test_a_restart_ends_it() -> None:
    """The worker is of an old generation then, which drains as a whole."""
    made = begun(512, 100)
    made.working = 2
    assert recycling.look(made, LIMITS, 101.0) == []
    assert made.recycling is None


def test_recycling_waits_for_the_old_workers_of_a_restart() -> None:
    """They are kept or drain: the machine has enough to do, and a rollback is possible."""
    made = serving(512)
    made.working = made.workers[1].generation = 2
    old = start(made, 0.0, Stage.DRAINING)
    assert recycling.look(made, LIMITS, 100.0) == []
    assert made.recycling is not None
    assert made.recycling.waits
    del made.workers[old]
    assert recycling.look(made, LIMITS, 101.0)
    assert not made.recycling.waits


def test_recycling_waits_while_two_generations_serve() -> None:
    """As after a restart in steps that was given up, until the working one is complete again."""
    made = serving(512, 100)
    made.workers[2].generation = 2
    made.renewal = Renewal(step=1)
    assert recycling.look(made, LIMITS, 100.0) == []
    assert "other workers start or drain" in recycling.sentence(made, made.workers[1])
    made.workers[2].generation = 1
    assert recycling.look(made, LIMITS, 101.0)


def test_recycling_waits_for_a_canary() -> None:
    """Neither the canary nor the generation beside it is recycled."""
    made = instance(*BOTH, (2, Stage.SERVING), size=2, phase=Phase.CANARY, newcomer=2)
    for worker in made.workers.values():
        worker.memory = 512 * MB
    (said,) = recycling.look(made, LIMITS, 100.0)
    assert said.endswith(", and waits: a canary is under way")


def test_after_a_rollback_no_successor_is_started() -> None:
    """It would run what is installed: the version that was rolled back."""
    made = serving(512, rolled_back=True)
    (said,) = recycling.look(made, LIMITS, 100.0)
    assert "segue restart ends this" in said
    assert steps(made, 100.0) == []


def test_a_worker_that_is_recycled_goes_first_when_there_is_one_too_many() -> None:
    """A scale down by one takes it, and its successor is needed no more."""
    made = begun(512, 100)
    made.size = 1
    share(made, 101.0)
    assert made.workers[1].stage is Stage.DRAINING
    assert Stop(3, "it is one too many") in steps(made, 101.0)


def test_recycling_waits_for_a_scale_up() -> None:
    """It begins when all of them serve."""
    made = serving(512, 100)
    made.size = 3
    assert recycling.look(made, LIMITS, 100.0) == []
    assert steps(made, 100.0) == [Spawn(1)]
    start(made, 100.0, Stage.SERVING)
    assert recycling.look(made, LIMITS, 101.0)


def test_a_scale_up_meanwhile_starts_one_more() -> None:
    """Beside the successor."""
    made = begun(512, 100)
    made.size = 3
    assert steps(made, 101.0) == [Spawn(1)]


def test_the_worker_serves_on_while_its_successors_fail() -> None:
    """Others are started as the back-off allows, and it is said once."""
    made = begun(512, 100)
    made.workers[3].feed(WorkerInput.EXIT, 101.0)
    del made.workers[3]
    made.not_before = 105.0
    (said,) = recycling.look(made, LIMITS, 101.0)
    assert said == (
        "worker 1.1 (pid 101) serves on until a successor is ready; none was after 1 start(s), and"
        " others are tried, at most 10 s apart"
    )
    assert steps(made, 104.0) == []
    assert steps(made, 105.0) == [Spawn(1)]
    start(made, 105.0)
    assert recycling.look(made, LIMITS, 106.0) == []
    assert made.workers[1].stage is Stage.SERVING
    assert "no successor was ready so far" in recycling.sentence(made, made.workers[1])


def test_a_successor_that_is_late_is_replaced() -> None:
    """As any other worker of the working generation."""
    made = begun(512)
    assert steps(made, 160.0) == [Stop(2, "it was not ready after 60 s")]
    made.workers[2].feed(WorkerInput.STOP, 160.0)
    assert steps(made, 160.0) == [Spawn(1)]


def test_the_worker_helps_out_while_it_drains() -> None:
    """If its successor dies before another is ready; then it drains again."""
    made = begun(512)
    made.workers[2].feed(WorkerInput.READY, 101.0)
    share(made, 101.0)
    made.workers[2].feed(WorkerInput.EXIT, 102.0)
    share(made, 102.0)
    assert made.shared == ((1, 1.0),)
    assert steps(made, 102.0) == [Spawn(1)]
    successor = start(made, 102.0, Stage.STANDBY)
    share(made, 103.0)
    assert made.shared == ((successor, 1.0),)


def test_a_worker_that_ends_meanwhile_needs_no_other_successor() -> None:
    """The one that starts takes its place, and the recycling is over."""
    made = begun(512, 100)
    made.workers[1].feed(WorkerInput.EXIT, 101.0)
    assert [step for step in steps(made, 101.0) if isinstance(step, Spawn)] == []
    assert recycling.look(made, LIMITS, 101.0) == []
    assert made.recycling is None


def test_a_stalled_worker_is_recycled_like_others() -> None:
    """It has no share meanwhile, and its successor gets it."""
    made = begun(512, 100)
    stalls = Health({1: Stall(90.0)})
    (step,) = plan(made, {}, LIMITS, 101.0, stalls)
    assert step == Share(((1, 0.0), (2, 1.0)))
    made.shared = ((1, 0.0), (2, 1.0))
    made.workers[3].feed(WorkerInput.READY, 102.0)
    assert plan(made, {}, LIMITS, 102.0, stalls) == [Share(((2, 1.0), (3, 1.0)))]


def test_a_worker_that_hangs_is_replaced_first() -> None:
    """One at a time, whatever for."""
    made = serving(512, 100)
    made.workers[2].outgoing, made.workers[2].hangs = "it was stalled", True
    assert recycling.look(made, LIMITS, 100.0) == []
    assert steps(made, 100.0) == [Spawn(1)]
    made = begun(512, 100)
    hangs = Limits(max_rss=300 * MB, stall_kill=1.0)
    assert plan(made, {}, hangs, 101.0, Health({2: Stall(90.0, total=5.0)})) != []
    assert not made.workers[2].outgoing


def test_without_limits_it_is_over() -> None:
    """The worker serves on, and its successor is one too many."""
    made = begun(512, 100)
    recycling.forget(made)
    assert made.recycling is None
    assert steps(made, 101.0) == [Stop(3, "it is one too many")]


def test_a_stop_ends_it() -> None:
    """Neither begins one, nor goes on with one, whose successor is stopped."""
    made = begun(512, 100)
    made.leave(InstanceInput.STOP, 101.0, delay=5.0, limit=0.0)
    recycling.look(made, LIMITS, 102.0)
    assert steps(made, 102.0) == [Stop(3, "it is one too many")]
    made = serving(512)
    made.leave(InstanceInput.STOP, 101.0, delay=5.0, limit=0.0)
    recycling.look(made, LIMITS, 102.0)
    assert steps(made, 102.0) == []


def grown_at_once(made: Instance, begins: float) -> tuple[float, list[str]]:
    """One whole recycling of a worker that is too large from the start; when it began, what was
    said.
    """
    said: list[str] = []
    now = begins
    while not said:
        said, now = recycling.look(made, LIMITS, now), now + 0.5
    assert made.recycling is not None
    old = made.recycling.worker
    successor = start(made, now)
    made.workers[successor].feed(WorkerInput.READY, now + 1)
    share(made, now + 1)
    made.workers[successor].memory = 512 * MB
    made.workers[old].feed(WorkerInput.EXIT, now + 1)
    del made.workers[old]
    return now, said


def test_workers_that_grow_too_large_at_once_are_not_recycled_without_end() -> None:
    """Pauses double up to a minute; it is said once, until one has served for long enough."""
    made = serving(512)
    times, sentences = [], []
    now = 100.0
    for _ in range(9):
        now, said = grown_at_once(made, now)
        times.append(now)
        sentences += [one for one in said if "longer and longer pauses" in one]
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps[0] < gaps[2] < gaps[4]
    assert 60 <= gaps[-1] < 70
    assert sentences == [sentence for sentence in sentences if "up to 60 s" in sentence]
    assert len(sentences) == 1
    now, _ = grown_at_once(made, now + 1000)
    assert made.hasty == 0


def test_a_pause_is_not_worth_a_line() -> None:
    """Status has it."""
    made = serving(512, recycle_after=200.0)
    assert recycling.look(made, LIMITS, 100.0) == []
    assert "waits: " in recycling.sentence(made, made.workers[1])
    assert steps(made, 100.0) == []


def test_it_survives_the_supervisor() -> None:
    """A next one goes on with it; a record of an earlier version has none."""
    made = begun(512, 100)
    again = Instance.from_json(json.loads(json.dumps(made.to_json())))
    assert again.recycling == made.recycling
    assert isinstance(again.recycling, Recycling)
    plain = made.to_json()
    for name in ("recycling", "hasty", "recycle_after"):
        del plain[name]
    assert Instance.from_json(plain).recycling is None
