"""What is due now: a pure function from what is known to the steps to take.

The runner asks after every event and performs the steps in their order.  Nothing here knows a
descriptor, a clock or a process: ``now`` and the facts come in, steps go out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

from segue.shares import by_generation
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.stages import Phase, Stage

FOREVER = float("inf")
Weights: TypeAlias = tuple[tuple[int, float], ...]  # (worker id, weight) by id


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds and counts; each default is argued in settings.py."""

    ready_timeout: float = 60.0
    idle_grace: float = 1.0
    drain_timeout: float = 30.0
    stop_timeout: float = 10.0
    crash_limit: int = 10
    crash_window: float = 60.0
    respawn: bool = True
    stall_kill: float = 0.0  # 0 for never


@dataclass(frozen=True, slots=True)
class Load:
    """What one worker still has, at the last look.

    ``requests`` counts half-open requests that may belong to its listeners; an engine that
    migrates them reports none.
    """

    queue: int = 0
    requests: int = 0
    busy: int = 0  # connections with an answer owed, bytes in flight, or not idle long enough
    idle: int = 0

    @property
    def quiet(self) -> bool:
        """Stopping this worker now cuts nothing."""
        return not (self.queue or self.requests or self.busy)

    @property
    def connections(self) -> int:
        """Accepted ones."""
        return self.busy + self.idle


@dataclass(frozen=True, slots=True)
class Stall:
    """A worker that is alive and does not accept, at the last look."""

    since: float
    queue: int = 0  # clients that wait at its listeners
    not_before: float = 0.0  # when its listeners may be cycled (again)
    total: float = 0.0  # seconds stalled within the last MEMORY times the limit ``stall_kill``


# A worker that is stalled for a tenth of its time costs its share more than a restart does.
MEMORY = 10.0


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start one worker of this generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class Flip:
    """Every newcomer is ready: give them their part of new connections, by these weights."""

    generation: int
    weights: Weights


@dataclass(frozen=True, slots=True)
class Share:
    """New connections go to these workers, by these weights, and to no other."""

    weights: Weights


@dataclass(frozen=True, slots=True)
class Rescue:
    """Step what waits behind this stalled worker to those that accept."""

    worker: int


@dataclass(frozen=True, slots=True)
class Retire:
    """This finisher is ready; let it finish its queue."""

    worker: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Send the stop signal, and say why."""

    worker: int
    why: str


@dataclass(frozen=True, slots=True)
class Kill:
    """Send SIGKILL: the stop signal's time is over."""

    worker: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """The newcomers will not do: stop them; nothing has changed for clients."""

    generation: int
    why: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """There is nothing left to go on with: stop everything and exit with 3."""

    why: str


@dataclass(frozen=True, slots=True)
class End:
    """The last worker is gone and the instance was told to stop."""


Step: TypeAlias = Spawn | Flip | Share | Rescue | Retire | Stop | Kill | Abandon | GiveUp | End


def plan(
    instance: Instance,
    loads: Mapping[int, Load],
    limits: Limits,
    now: float,
    stalls: Mapping[int, Stall] = MappingProxyType({}),
) -> list[Step]:
    """Every step that is due at ``now``, in the order in which to perform them.

    ``stalls`` has the workers that are known to be stalled, by id.
    """
    if instance.phase is Phase.ENDED:
        return []
    living = instance.living
    if instance.phase is Phase.STOPPING:
        steps: list[Step] = [
            Stop(one.id, "the instance stops")
            for one in living
            if one.stage not in {Stage.STOPPING, Stage.KILLED}
        ]
        steps += _kills(instance, living, loads, limits, now)
        return steps or ([] if living else [End()])
    given_up = _given_up(instance, living)
    if given_up:
        return given_up
    verdict = _newcomers(instance, limits, now, stalls)
    if verdict:
        return verdict
    weights = shares(instance, stalls)
    if weights and weights != instance.shared:
        # Alone: who gets a share again must not be stopped for being quiet in the same breath.
        return [Share(weights)]
    steps = [Retire(one.id) for one in living if one.finisher and one.stage is Stage.STANDBY]
    steps += _rescues(instance, stalls, now)
    steps += _spawns(instance, living, limits, now)
    steps += _stops(instance, living, loads, limits, now)
    steps += _stall_stops(instance, living, limits, stalls)
    steps += _kills(instance, living, loads, limits, now)
    return steps


def lasting(instance: Instance, step: Step) -> bool:
    """Whether the record is to be written for this step, before it is performed.

    Who stalls is found out anew by a next supervisor, which writes the shares anew as well.
    """
    match step:
        case Rescue():
            return False
        case Share(weights):
            return {worker for worker, _ in weights} != {worker for worker, _ in instance.shared}
        case _:
            return True


def flipped(instance: Instance, generation: int) -> Instance:
    """The instance as it is when these newcomers have got their part: a canary, or the working
    generation.
    """
    if instance.phase is Phase.RENEWING and instance.renewal.percent < 100:
        return replace(instance, phase=Phase.CANARY)
    return replace(instance, phase=Phase.SERVING, working=generation, newcomer=None)


def shares(instance: Instance, stalls: Collection[int] = frozenset()) -> Weights:
    """The weights that new connections should have; () to leave them.

    While no worker can serve, the last shares stay: what arrives waits in a held listener.  A
    stalled worker keeps its place with a weight of 0, as long as another worker can have its share.
    """
    if instance.phase in {Phase.STARTING, Phase.STOPPING, Phase.ENDED}:
        return ()
    generations = [_candidates(instance, instance.working)]
    percent = None
    if instance.phase is Phase.CANARY and instance.newcomer is not None:
        generations.append(_candidates(instance, instance.newcomer))
        percent = instance.renewal.percent
    there = [[worker.id for worker in workers] for workers in generations if workers]
    if not there:
        return ()
    factors = {
        worker: instance.factors.get(worker, 1.0) * instance.balance.get(worker, 1.0)
        for workers in there
        for worker in workers
    }
    weights = by_generation(there, len(there[0]), percent, factors, stalls)
    return tuple(weights.items())


def _candidates(instance: Instance, generation: int) -> list[Worker]:
    """Who may serve, at most ``size``: serving ones first, then ready ones, then returners."""
    order = [Stage.SERVING, Stage.STANDBY, Stage.DRAINING]
    able = [one for one in instance.of(generation) if one.stage in order and not one.fault]
    able.sort(key=lambda one: (order.index(one.stage), one.id))
    return sorted(able[: instance.size], key=lambda one: one.id)


def _given_up(instance: Instance, living: list[Worker]) -> list[Step]:
    """Newcomers that were replaced, rolled back or abandoned before they had a share."""
    serving = {instance.working, instance.newcomer}
    return [
        Stop(one.id, "its generation is given up")
        for one in living
        if one.stage in {Stage.STARTING, Stage.STANDBY} and not one.finisher
        if one.generation > instance.working and one.generation not in serving
    ]


def _newcomers(
    instance: Instance, limits: Limits, now: float, stalls: Collection[int]
) -> list[Step]:
    """Whether the generation that is starting has made it, has failed, or needs workers."""
    first = instance.phase is Phase.STARTING
    generation = instance.working if first else instance.newcomer
    if generation is None or instance.phase is Phase.SERVING:
        return []
    everyone = [one for one in instance.workers.values() if one.generation == generation]
    fallen = next((one for one in everyone if not one.live), None)
    late = next(
        (
            one
            for one in everyone
            if one.stage is Stage.STARTING and now >= one.started + limits.ready_timeout
        ),
        None,
    )
    faulty = next((one for one in everyone if one.live and one.fault), None)
    why = ""
    if faulty:
        why = f"{faulty.name} {faulty.fault}"
    elif fallen:
        why = f"{fallen.name} {fallen.outcome}"
    elif late:
        why = f"{late.name} was not ready after {limits.ready_timeout:g} s"
    if why:
        return [GiveUp(why)] if first else [Abandon(generation, why)]
    if instance.phase is Phase.CANARY:
        return []
    missing = instance.size - len(everyone)
    if missing > 0:
        return [Spawn(generation)] * missing
    if all(one.stage is Stage.STANDBY for one in everyone):
        return [Flip(generation, shares(flipped(instance, generation), stalls))]
    return []


def _spawns(instance: Instance, living: list[Worker], limits: Limits, now: float) -> list[Step]:
    """Workers that the working generation lacks, once the back-off allows."""
    if not limits.respawn or instance.phase is Phase.STARTING:
        return []
    active = [
        one
        for one in instance.of(instance.working, Stage.STARTING, Stage.STANDBY, Stage.SERVING)
        if not (one.stage is Stage.SERVING and one.fault)
    ]
    recent = [when for when in instance.crashes if when > now - limits.crash_window]
    nobody = not any(
        one.stage in {Stage.SERVING, Stage.STANDBY, Stage.DRAINING}
        # Newcomers may be the repair of what does not work: they are waited for.
        or (one.stage is Stage.STARTING and one.generation == instance.newcomer)
        for one in living
    )
    if len(recent) > limits.crash_limit and nobody:
        return [
            GiveUp(
                f"{len(recent)} workers died within {limits.crash_window:g} s and none is serving"
            )
        ]
    missing = instance.size - len(active)
    if missing < 0:
        # Those that serve lose their share first and are drained; these have nothing to drain.
        idle = [one for one in active if one.stage is not Stage.SERVING]
        return [Stop(one.id, "it is one too many") for one in idle[missing:]]
    return [Spawn(instance.working)] * missing if missing > 0 and now >= instance.not_before else []


def _rescues(instance: Instance, stalls: Mapping[int, Stall], now: float) -> list[Step]:
    sharing = [worker for worker, weight in instance.shared if weight]
    return [Rescue(worker) for worker in due_rescues(sharing, stalls, now)]


def due_rescues(sharing: Collection[int], stalls: Mapping[int, Stall], now: float) -> list[int]:
    """Whose queues are to be moved, where another worker that has a share is awake."""
    if not any(worker not in stalls for worker in sharing):
        return []
    return [one for one, stall in stalls.items() if stall.queue and now >= stall.not_before]


def _stall_stops(
    instance: Instance, living: list[Worker], limits: Limits, stalls: Mapping[int, Stall]
) -> list[Step]:
    """Workers that are stalled too long, or again and again."""
    if not limits.stall_kill or instance.phase is Phase.STARTING:
        return []
    window = MEMORY * limits.stall_kill
    return [
        Stop(one.id, f"it was stalled for {stalls[one.id].total:.1f} of the last {window:g} s")
        for one in living
        if one.stage is Stage.SERVING
        and one.id in stalls
        and stalls[one.id].total >= limits.stall_kill
    ]


def _stops(
    instance: Instance, living: list[Worker], loads: Mapping[int, Load], limits: Limits, now: float
) -> list[Step]:
    steps: list[Step] = []
    for one in living:
        late = now >= one.started + limits.ready_timeout and not one.fault
        if one.stage is Stage.STARTING and late:
            steps.append(Stop(one.id, f"it was not ready after {limits.ready_timeout:g} s"))
        if one.stage in {Stage.STARTING, Stage.STANDBY} and not one.finisher:
            if one.fault:
                steps.append(Stop(one.id, one.fault))
            elif one.generation not in {instance.working, instance.newcomer}:
                steps.append(Stop(one.id, "its generation serves no more"))
        if one.stage is not Stage.DRAINING:
            continue
        has = loads.get(one.id)
        if now >= one.stage_since + limits.drain_timeout + instance.renewal.keep:
            steps.append(Stop(one.id, f"the drain limit of {limits.drain_timeout:g} s passed"))
        elif has and has.quiet and now >= one.stage_since + instance.renewal.keep:
            steps.append(Stop(one.id, "it is quiet"))
        elif instance.renewal.cut and now >= one.stage_since + instance.renewal.keep:
            steps.append(Stop(one.id, "accepted connections are to be cut"))
    return steps


def _kills(
    instance: Instance, living: list[Worker], loads: Mapping[int, Load], limits: Limits, now: float
) -> list[Step]:
    return [
        Kill(one.id)
        for one in living
        if one.stage is Stage.STOPPING
        and now >= one.stage_since + limits.stop_timeout
        and (now >= _patience(instance, one, limits) or not _has_connections(loads.get(one.id)))
    ]


def _patience(instance: Instance, worker: Worker, limits: Limits) -> float:
    """Until when one that was told to stop may finish its connections.

    It may have looked quiet and not be: an answer that pauses looks like one that is over.  What
    it was promised is the drain limit.
    """
    return (
        0.0
        if instance.renewal.cut
        else worker.draining_since + limits.drain_timeout + instance.renewal.keep
    )


def _has_connections(load: Load | None) -> bool:
    return load is not None and load.connections > 0


def deadline(instance: Instance, limits: Limits, now: float) -> float:
    """When the plan next wants the time, if no event comes before; FOREVER for never.

    Draining workers are looked at at the observer's pace, which is the runner's to choose.
    """
    times = []
    for one in instance.living:
        if one.stage is Stage.STARTING:
            times.append(one.started + limits.ready_timeout)
        elif one.stage is Stage.DRAINING:
            times.append(one.stage_since + limits.drain_timeout + instance.renewal.keep)
            times.append(one.stage_since + instance.renewal.keep)
        elif one.stage is Stage.STOPPING:
            times.append(one.stage_since + limits.stop_timeout)
            times.append(_patience(instance, one, limits))
    times.append(instance.not_before)
    return min((when for when in times if when > now), default=FOREVER)


def backoff(crashes: Iterable[float], limits: Limits, now: float) -> float:
    """When the next worker may be spawned after this failed start.

    The first crash in the window costs nothing, since a single one is most often a recycling
    worker; then 0.1 s doubling to 10 s, which keeps a broken program under one start in ten
    seconds and a mended one back within ten.
    """
    recent = sum(1 for when in crashes if when > now - limits.crash_window)
    return now + (min(10.0, 0.1 * 2 ** (recent - 2)) if recent > 1 else 0.0)
