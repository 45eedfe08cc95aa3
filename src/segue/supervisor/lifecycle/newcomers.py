"""The generation that starts: when its workers start, when it serves, and when it is given up.

A restart starts all newcomers at once, and they take over together.  A restart in steps
(``Renewal.step``) starts a few: these take over from as many old workers, and the next ones start
when those have ended.  So there are never more than ``size + step`` workers.  If a newcomer fails
before the last step, all of the new generation are given up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.limits import Limits
from segue.supervisor.lifecycle.seats import later, shares
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.lifecycle.steps import Abandon, Advance, Flip, GiveUp, Spawn, Step

_LEAVING = frozenset({Stage.DRAINING, Stage.STOPPING, Stage.KILLED})


def flipped(instance: Instance, generation: int) -> Instance:
    """The instance after the flip to this generation, which is then a canary or the working one."""
    if instance.phase is Phase.RENEWING and instance.renewal.percent < 100:
        return replace(instance, phase=Phase.CANARY)
    return replace(instance, phase=Phase.SERVING, working=generation, newcomer=None)


def newcomers(
    instance: Instance,
    limits: Limits,
    now: float,
    stalls: Collection[int],
    asking: Collection[int] = frozenset(),
) -> list[Step]:
    """Steps for the starting generation: it is ready, it has failed, or it needs workers."""
    first = instance.phase is Phase.STARTING
    generation = instance.working if first else instance.newcomer
    if generation is None or instance.phase is Phase.SERVING:
        return []
    everyone = [
        one
        for one in instance.workers.values()
        if one.generation == generation and not excused(instance, one, limits)
    ]
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
    why, reason = "", ""
    if faulty:
        why = f"{faulty.name} {faulty.fault}"
    elif fallen:
        why, reason = f"{fallen.name} {fallen.outcome}", fallen.reason
    elif late:
        why = f"{late.name} {was_late(late, limits)}"
    retried_until = instance.begun + limits.start_retry
    if first and now < retried_until:
        why = ""  # a late or faulty worker is stopped, and then another one is started
    if why:
        return [GiveUp(why, reason)] if first else [Abandon(generation, why, reason)]
    if instance.phase is Phase.CANARY:
        return []
    if instance.renewal.step and not first:
        return _in_steps(instance, generation, stalls, asking)
    missing = instance.size - len(everyone)
    if missing > 0:
        due = instance.not_before if first else now
        if first and limits.start_retry:
            due = min(due, retried_until)  # the last ones, whatever the pace is
        return [Spawn(generation)] * missing if now >= due else []
    if all(one.stage is Stage.STANDBY for one in everyone):
        return [Flip(generation, shares(flipped(instance, generation), stalls))]
    return []


def _in_steps(
    instance: Instance, generation: int, stalls: Collection[int], asking: Collection[int]
) -> list[Step]:
    """Start newcomers, let them take over, or wait for one of both.

    A worker that waits for this very restart is not ended before the last step, and so cannot be
    waited for.
    """
    serving, coming = len(instance.of(generation, Stage.SERVING)), joining(instance)
    if any(one.stage is Stage.STARTING for one in coming):
        return []
    if serving + len(coming) >= instance.size:
        return [Flip(generation, shares(flipped(instance, generation), stalls))]
    if coming:
        return [Advance(shares(instance, stalls, asking, advancing=True))]
    living = [one for one in instance.living if one.stage not in _LEAVING or one.id not in asking]
    if len(living) > instance.size or any(one.stage in _LEAVING for one in living):
        return []
    return [Spawn(generation)] * min(instance.renewal.step, instance.size - serving)


def joining(instance: Instance) -> list[Worker]:
    """The newcomers that start, or wait until all of their step are ready."""
    if instance.newcomer is None:
        return []
    return instance.of(instance.newcomer, Stage.STARTING, Stage.STANDBY)


def progress(instance: Instance) -> str:
    """How far a restart in steps is; "" if none is under way."""
    step, generation = instance.renewal.step, instance.newcomer
    if instance.phase is not Phase.RENEWING or not step or generation is None:
        return ""
    serving, coming = len(instance.of(generation, Stage.SERVING)), joining(instance)
    steps = -(-instance.size // step)
    number = -(-serving // step) + bool(coming or not serving)
    return (
        f"step {min(number, steps)} of {steps}: {serving} of {instance.size} worker(s) are of"
        f" generation {generation}; {'new ones start' if coming else 'old ones finish'}"
    )


def mixture(instance: Instance) -> str:
    """Who serves after a restart in steps was given up; "" if only the working generation does."""
    if instance.phase is not Phase.SERVING or not later(instance):
        return ""
    serving = Counter(one.generation for one in instance.living if one.stage is Stage.SERVING)
    parts = [f"{number} worker(s) of generation {one}" for one, number in sorted(serving.items())]
    return f"{' and '.join(parts)} serve until generation {instance.working} is complete again"


def was_late(worker: Worker, limits: Limits) -> str:
    """What is said of a worker that is not ready in time."""
    reason = f": {worker.missing}" if worker.missing else ""
    return f"was not ready after {limits.ready_timeout:g} s{reason}"


def excused(instance: Instance, worker: Worker, limits: Limits) -> bool:
    """Its end is no reason to give its generation up, and another worker is started for it.

    It fell while the first start was to be tried again; or, in a restart in steps, it had served
    and then used up its quota, or was one too many.
    """
    if worker.live:
        return False
    if instance.phase is Phase.STARTING and worker.generation == instance.working:
        return worker.draining_since < instance.begun + limits.start_retry
    stepping = instance.phase is Phase.RENEWING and bool(instance.renewal.step)
    return stepping and (worker.spent or worker.stop_requested)
