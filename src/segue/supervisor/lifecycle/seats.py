"""Which workers have a share of new connections, and how large it is."""

from __future__ import annotations

from collections.abc import Collection

from segue.shares import by_generation
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.lifecycle.steps import Weights


def shares(instance: Instance, stalls: Collection[int] = frozenset()) -> Weights:
    """The weights for new connections, or () to leave them unchanged.

    While no worker can serve, the last shares stay, and new connections wait in a held listener.  A
    stalled worker stays in the table with a weight of 0, if another worker can have its share.
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
    """The workers that may serve, at most ``size``: serving, then ready, then returning ones.

    Those that are to be replaced come last.
    """
    order = [Stage.SERVING, Stage.STANDBY, Stage.DRAINING]
    able = [one for one in instance.of(generation) if one.stage in order and not one.fault]
    able.sort(key=lambda one: (bool(one.outgoing), order.index(one.stage), one.id))
    return sorted(able[: instance.size], key=lambda one: one.id)
