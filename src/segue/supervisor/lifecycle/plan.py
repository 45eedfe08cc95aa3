"""The steps that are due: a pure function of the known facts.

The runner asks for them after every event, and ``run/perform.py`` performs them in order.  The plan
uses no descriptor, clock or process: it gets ``now`` and the facts, and returns steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from segue.supervisor.lifecycle import carrying
from segue.supervisor.lifecycle.carrying import Carries
from segue.supervisor.lifecycle.ending import ENDING, fitted
from segue.supervisor.lifecycle.health import Health, Stall, replacements
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.limits import Limits
from segue.supervisor.lifecycle.newcomers import joining, newcomers, was_late
from segue.supervisor.lifecycle.seats import seats, shares
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.lifecycle.steps import (
    Carry,
    End,
    GiveUp,
    Kill,
    LetGo,
    Refuse,
    Renew,
    Rescue,
    Retire,
    Share,
    Spawn,
    Step,
    Stop,
)

FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Load:
    """The connections that one worker still has, at the last look.

    ``requests`` counts half-open requests that may belong to its listeners.  With an engine that
    migrates them, there are none ``HALF_OPEN`` seconds after the flip.
    """

    queue: int = 0
    requests: int = 0
    untouched: int = 0  # accepted connections of which the worker has not read a request yet
    busy: int = 0  # connections with an open request, bytes in flight, or not idle long enough
    idle: int = 0
    empty_since: float = 0.0  # when it was first seen without an accepted connection

    @property
    def quiet(self) -> bool:
        """True if stopping this worker now closes no connection in use."""
        return not (self.queue or self.requests or self.busy)

    @property
    def connections(self) -> int:
        """The number of accepted connections."""
        return self.busy + self.idle


# How long a stop waits for half-open requests, and where they migrate a drain too.  A SYN-ACK that
# was lost is sent again after 1 s; a client that is still silent then has most likely gone, or
# scans.
HALF_OPEN = 1.5


def plan(
    instance: Instance,
    loads: Mapping[int, Load],
    limits: Limits,
    now: float,
    health: Health = Health(),  # noqa: B008  a frozen value
    asking: Collection[int] = frozenset(),
    carries: Mapping[int, Carries] = MappingProxyType({}),
) -> list[Step]:
    """All steps that are due at ``now``, in their order.

    ``asking`` has the workers that wait for an answer to their own order, by id: unless the
    instance stops, they are not ended before it.  ``carries`` has the draining workers whose kept
    connections can be carried.
    """
    if instance.phase is Phase.ENDED:
        return []
    living = instance.living
    if instance.phase in ENDING:
        limits = fitted(limits)
    if instance.phase is Phase.STOPPING:
        return _ending(instance, living, loads, limits, now)
    if instance.phase is Phase.LEAVING and now >= instance.refuse_at:
        return [Refuse()]
    if instance.queued is not None and instance.phase is Phase.SERVING:
        return [Renew()]
    given_up = _given_up(instance, living)
    if given_up:
        return given_up
    verdict = newcomers(instance, limits, now, health.stalls, asking)
    if verdict:
        return verdict
    weights = shares(instance, health.stalls, asking)
    if weights and weights != instance.shared:
        # Alone, so that a worker that gets its share back is not stopped as quiet at the same time.
        return [Share(weights)]
    steps: list[Step] = [
        Retire(one.id) for one in living if one.finisher and one.stage is Stage.STANDBY
    ]
    steps += _rescues(instance, health.stalls, now)
    steps += _spawns(instance, living, limits, now)
    quiet = frozenset(one.id for one in living if _quiet(instance, one, loads, now))
    steps += carrying.looks(instance, carries, quiet, now)
    steps += _stops(instance, living, quiet, carries, limits, now)
    steps += replacements(instance, limits, health, now)
    steps += _kills(instance, living, loads, limits, now)
    return [one for one in steps if not (isinstance(one, Stop | Kill) and one.worker in asking)]


def lasting(instance: Instance, step: Step) -> bool:
    """True if this step changes state that a later supervisor needs.

    To be asked before the step is performed; the record is written after all steps that are due.
    It need not have stalls: a later supervisor finds them again, and writes the shares again.  Nor
    what was carried: it goes on with what is left.
    """
    match step:
        case Rescue() | Carry() | LetGo():
            return False
        case Share(weights):
            return {worker for worker, _ in weights} != {worker for worker, _ in instance.shared}
        case _:
            return True


def _given_up(instance: Instance, living: list[Worker]) -> list[Step]:
    """Stop workers of generations that were replaced or given up before they had a share."""
    serving = {instance.working, instance.newcomer}
    return [
        Stop(one.id, "its generation is given up")
        for one in living
        if one.stage in {Stage.STARTING, Stage.STANDBY} and not one.finisher
        if one.generation > instance.working and one.generation not in serving
    ]


def _spawns(instance: Instance, living: list[Worker], limits: Limits, now: float) -> list[Step]:
    """Start the workers that the working generation lacks, once the back-off allows."""
    if not limits.respawn or instance.phase is Phase.STARTING:
        return []
    active = [
        one
        for one in instance.of(instance.working, Stage.STARTING, Stage.STANDBY, Stage.SERVING)
        if not (one.stage is Stage.SERVING and (one.fault or one.outgoing))
    ]
    recent = [when for when in instance.crashes if when > now - limits.crash_window]
    nobody = not any(
        one.stage in {Stage.SERVING, Stage.STANDBY, Stage.DRAINING}
        # A starting generation may be the repair, so we wait for it.
        or (one.stage is Stage.STARTING and one.generation == instance.newcomer)
        for one in living
    )
    if limits.crash_limit and len(recent) > limits.crash_limit and nobody:
        return [
            GiveUp(
                f"{len(recent)} workers died within {limits.crash_window:g} s and none is serving"
            )
        ]
    missing = seats(instance) - len(active)
    if missing < 0:
        # Serving workers lose their share first and drain.  These have nothing to drain.
        idle = [one for one in active if one.stage is not Stage.SERVING]
        return [Stop(one.id, "it is one too many") for one in idle[missing:]]
    if instance.renewal.step:
        # The newcomers that start get the places of those that died.
        coming = joining(instance)
        room = instance.size + instance.renewal.step - len(living)
        missing = min(missing - len(coming), room)
    return [Spawn(instance.working)] * missing if missing > 0 and now >= instance.not_before else []


def _rescues(instance: Instance, stalls: Mapping[int, Stall], now: float) -> list[Step]:
    sharing = [worker for worker, weight in instance.shared if weight]
    return [Rescue(worker) for worker in due_rescues(sharing, stalls, now)]


def due_rescues(sharing: Collection[int], stalls: Mapping[int, Stall], now: float) -> list[int]:
    """The workers whose queues must move, if another worker with a share is awake."""
    if not any(worker not in stalls for worker in sharing):
        return []
    return [one for one, stall in stalls.items() if stall.queue and now >= stall.not_before]


def _quiet(instance: Instance, worker: Worker, loads: Mapping[int, Load], now: float) -> bool:
    """A draining worker that nobody is served by any more."""
    has = loads.get(worker.id)
    since = worker.stage_since + instance.renewal.keep
    return worker.stage is Stage.DRAINING and has is not None and has.quiet and now >= since


def _stops(
    instance: Instance,
    living: list[Worker],
    quiet: Collection[int],
    carries: Mapping[int, Carries],
    limits: Limits,
    now: float,
) -> list[Step]:
    steps: list[Step] = []
    for one in living:
        late = now >= one.started + limits.ready_timeout and not one.fault
        if one.stage is Stage.STARTING and late:
            steps.append(Stop(one.id, f"it {was_late(one, limits)}"))
        if one.stage in {Stage.STARTING, Stage.STANDBY} and not one.finisher:
            if one.fault:
                steps.append(Stop(one.id, one.fault))
            elif one.generation not in {instance.working, instance.newcomer}:
                steps.append(Stop(one.id, "its generation serves no more"))
        if one.stage is not Stage.DRAINING:
            continue
        if one.hangs:
            steps.append(Stop(one.id, one.outgoing))
        elif now >= one.stage_since + limits.drain_timeout + instance.renewal.keep:
            steps.append(Stop(one.id, f"the drain limit of {limits.drain_timeout:g} s passed"))
        elif one.id in quiet and not carrying.waits(instance, one, carries, now):
            steps.append(Stop(one.id, "it is quiet"))
        elif (
            instance.renewal.cut
            and now >= one.stage_since + instance.renewal.keep
            and not carrying.unseen(instance, one, carries)
        ):
            steps.append(Stop(one.id, "accepted connections are to be cut"))
    return steps


def _ending(
    instance: Instance, living: list[Worker], loads: Mapping[int, Load], limits: Limits, now: float
) -> list[Step]:
    """Stop each worker as soon as nobody waits for it, and end with the last."""
    steps: list[Step] = [
        Stop(one.id, why)
        for one in living
        if one.stage not in {Stage.STOPPING, Stage.KILLED}
        if (why := _why_now(instance, one, loads.get(one.id), limits, now))
    ]
    steps += _kills(instance, living, loads, limits, now)
    return steps or ([] if living else [End()])


def _why_now(
    instance: Instance, worker: Worker, load: Load | None, limits: Limits, now: float
) -> str:
    """Why this worker is told to stop now, while the instance stops; "" to wait.

    A worker finishes the requests that it has read; what it has not read would be reset.
    """
    if _out_of_time(instance, now):
        return f"the stop limit of {limits.stop_limit:g} s passed"
    if worker.stage is not Stage.DRAINING:
        return "the instance stops"
    if now >= worker.stage_since + limits.drain_timeout:
        return f"the drain limit of {limits.drain_timeout:g} s passed"
    if instance.stop_by and now >= instance.stop_by - limits.stop_timeout:
        return f"it needs the rest of the stop limit of {limits.stop_limit:g} s"
    since = max(worker.stage_since, instance.refuse_at)
    if load is None or load.queue or load.untouched:
        return ""
    return "" if load.requests and now < since + HALF_OPEN else "the instance stops"


def _out_of_time(instance: Instance, now: float) -> bool:
    return bool(instance.stop_by) and now >= instance.stop_by


def _kills(
    instance: Instance, living: list[Worker], loads: Mapping[int, Load], limits: Limits, now: float
) -> list[Step]:
    return [
        Kill(one.id)
        for one in living
        if one.stage is Stage.STOPPING
        and (
            _out_of_time(instance, now)
            or (
                now >= one.stage_since + limits.stop_timeout
                and (
                    now >= _patience(instance, one, limits)
                    or now >= _empty_since(loads.get(one.id)) + limits.stop_timeout
                )
            )
        )
    ]


def _patience(instance: Instance, worker: Worker, limits: Limits) -> float:
    """The time until which a worker that was told to stop may finish its connections.

    It may have looked quiet without being so: a response that pauses looks finished.  It was
    promised the drain limit.  One that hangs may be about to answer what it has accepted.
    """
    return (
        0.0
        if instance.renewal.cut
        else worker.draining_since + limits.drain_timeout + instance.renewal.keep
    )


def _empty_since(load: Load | None) -> float:
    """From then on the worker ends its own affairs: it closes a database, writes what it has left.

    It has the whole stop timeout for that, however long its last response took.
    """
    if load is None:
        return 0.0
    return FOREVER if load.connections else load.empty_since


def deadline(
    instance: Instance,
    limits: Limits,
    now: float,
    carries: Mapping[int, Carries] = MappingProxyType({}),
) -> float:
    """When the plan must be asked again if no event comes before; FOREVER means never.

    How often draining workers are looked at is not part of this; the runner chooses it.
    """
    times = [instance.refuse_at, instance.stop_by, carrying.deadline(instance, carries)]
    if instance.phase in ENDING:
        limits = fitted(limits)
        times.append(instance.stop_by - limits.stop_timeout)
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
