"""The generation that starts: when its workers start, when it serves, and when it is given up."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.limits import Limits
from segue.supervisor.lifecycle.seats import shares
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.lifecycle.steps import Abandon, Flip, GiveUp, Spawn, Step


def flipped(instance: Instance, generation: int) -> Instance:
    """The instance after the flip to this generation, which is then a canary or the working one."""
    if instance.phase is Phase.RENEWING and instance.renewal.percent < 100:
        return replace(instance, phase=Phase.CANARY)
    return replace(instance, phase=Phase.SERVING, working=generation, newcomer=None)


def newcomers(
    instance: Instance, limits: Limits, now: float, stalls: Collection[int]
) -> list[Step]:
    """Steps for the starting generation: it is ready, it has failed, or it needs workers."""
    first = instance.phase is Phase.STARTING
    generation = instance.working if first else instance.newcomer
    if generation is None or instance.phase is Phase.SERVING:
        return []
    everyone = [
        one
        for one in instance.workers.values()
        if one.generation == generation and not retried(instance, one, limits)
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
    if first and now < instance.begun + limits.start_retry:
        why = ""  # a late or faulty worker is stopped, and then another one is started
    if why:
        return [GiveUp(why)] if first else [Abandon(generation, why, reason)]
    if instance.phase is Phase.CANARY:
        return []
    missing = instance.size - len(everyone)
    if missing > 0:
        return [Spawn(generation)] * missing if not first or now >= instance.not_before else []
    if all(one.stage is Stage.STANDBY for one in everyone):
        return [Flip(generation, shares(flipped(instance, generation), stalls))]
    return []


def was_late(worker: Worker, limits: Limits) -> str:
    """What is said of a worker that is not ready in time."""
    reason = f": {worker.missing}" if worker.missing else ""
    return f"was not ready after {limits.ready_timeout:g} s{reason}"


def retried(instance: Instance, worker: Worker, limits: Limits) -> bool:
    """It fell, or was told to stop and ended, while the first start was to be tried again."""
    patient_until = instance.begun + limits.start_retry
    starting = instance.phase is Phase.STARTING and worker.generation == instance.working
    return starting and not worker.live and worker.draining_since < patient_until
