"""Which workers have a share of new connections, and how large it is.

An instance has ``size`` seats, and each worker that serves has one.  In a restart in steps workers
of two generations have seats: newcomers that have taken over, and old workers that still serve.  If
it is given up, newcomers keep their seats until old workers are there again for them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from segue.shares import by_generation
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.lifecycle.steps import Weights


def shares(
    instance: Instance,
    stalls: Collection[int] = frozenset(),
    asking: Collection[int] = frozenset(),
    *,
    advancing: bool = False,
) -> Weights:
    """The weights for new connections, or () to leave them unchanged.

    While no worker can serve, the last shares stay, and new connections wait in a held listener.  A
    stalled worker stays in the table with a weight of 0, if another worker can have its share.
    ``asking`` has the workers that wait for this restart: in one in steps they are replaced last.
    ``advancing``: with the newcomers of a restart in steps that are ready.
    """
    if instance.phase in {Phase.STARTING, Phase.STOPPING, Phase.ENDED}:
        return ()
    generations = [_candidates(instance, instance.working)]
    percent = None
    if instance.phase is Phase.CANARY and instance.newcomer is not None:
        generations.append(_candidates(instance, instance.newcomer))
        percent = instance.renewal.percent
    elif instance.renewal.step:
        generations = [_mixed(instance, asking, advancing=advancing)]
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


def seats(instance: Instance) -> int:
    """How many workers the working generation is to have.

    It is complete again before newcomers of a restart in steps that was given up are stopped.
    """
    if instance.phase in {Phase.RENEWING, Phase.LEAVING}:
        return max(0, instance.size - len(later(instance)))
    return instance.size


def later(instance: Instance) -> list[Worker]:
    """The workers that serve in a restart in steps although theirs is not the working generation.

    Oldest first.
    """
    if not instance.renewal.step:
        return []
    return [
        one
        for one in instance.living
        if one.generation > instance.working
        and one.stage is Stage.SERVING
        and not one.finisher
        and not one.fault
    ]


def _mixed(instance: Instance, asking: Collection[int], *, advancing: bool) -> list[Worker]:
    """Those that have seats in a restart in steps.

    Newcomers come first, and newcomers of a restart that was given up come last.
    """
    newcomers: list[Worker] = []
    newcomer = instance.newcomer
    if newcomer is not None:
        ready = [Stage.STANDBY] if advancing else []
        newcomers = _able(instance, newcomer, [Stage.SERVING, *ready, Stage.DRAINING])
    others = [one for one in later(instance) if one.generation != newcomer]
    old = sorted(_able(instance, instance.working), key=lambda one: one.id not in asking)
    everyone = [*newcomers, *old, *others]
    return _first(instance, everyone)


def _candidates(instance: Instance, generation: int) -> list[Worker]:
    """The workers that may serve, at most ``size``."""
    return _first(instance, _able(instance, generation))


def _first(instance: Instance, workers: Sequence[Worker]) -> list[Worker]:
    return sorted(workers[: instance.size], key=lambda one: one.id)


def _able(
    instance: Instance,
    generation: int,
    order: Sequence[Stage] = (Stage.SERVING, Stage.STANDBY, Stage.DRAINING),
) -> list[Worker]:
    """The workers of these stages that may serve, in the order of their stages.

    Those that are to be replaced come last.
    """
    able = [one for one in instance.of(generation) if one.stage in order and not one.fault]
    return sorted(able, key=lambda one: (bool(one.outgoing), order.index(one.stage), one.id))
