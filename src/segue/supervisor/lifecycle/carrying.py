"""When kept connections of a worker that drains or stalls are carried to workers that serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.lifecycle.steps import Carry, LetGo, Step

# Somebody serves on to whom they may go.  At the last stop there is nobody.
_PHASES = frozenset({Phase.SERVING, Phase.RENEWING, Phase.CANARY})
# A connection that seems about to be carried is waited for so long, from the last that was or that
# had an answer still to come.
_PATIENCE = 2.0
# From the last that was carried, clients are told to go that would stay until the drain limit.
_LET_GO_AFTER = 1.0
_FRESH = 0.1  # new enough for a decision


@dataclass(frozen=True, slots=True)
class Carries:
    """What the last look at a worker's connections has come to."""

    looked: float = 0.0  # when it ended; 0 for never
    due: float = 0.0  # when the next is
    progress: float = 0.0  # when the last connection was carried
    soon: int = 0  # connections that may be carried soon
    staying: int = 0  # those that will not be, or hardly
    answered: int = 0  # connections with an answer that is being given: more is to come of it
    answering: float = 0.0  # when there was such a connection last
    began: float = 0.0  # when its looks began, which a reexec begins anew
    told: bool = False  # the worker tells them to go with their next answer
    stalls: bool = False  # it does not drain: it serves, and does nothing

    def after(
        self, looked: float, due: float, *, progress: bool, soon: int, staying: int, answered: int
    ) -> Carries:
        """What one more look has come to; with ``progress`` it has carried something."""
        return replace(
            self,
            looked=looked,
            due=due,
            progress=looked if progress else self.progress,
            soon=soon,
            staying=staying,
            answered=answered,
            answering=looked if answered else self.answering,
        )


def looks(
    instance: Instance, carries: Mapping[int, Carries], quiet: frozenset[int], now: float
) -> list[Step]:
    """The looks that are due, each of which carries what it finds, and what follows from them.

    ``quiet`` are the workers that would be told to stop now.
    """
    found: list[Step] = []
    for one in _draining(instance):
        its = carries.get(one.id)
        if its is None:
            continue
        if now >= its.due or (one.id in quiet and _old(its, now)):
            found.append(Carry(one.id))
        if its.staying and not its.told and now >= _since(one, its) + _LET_GO_AFTER:
            found.append(LetGo(one.id))
    found += [Carry(one) for one, its in _stalled(instance, carries) if now >= its.due]
    return found


def waits(instance: Instance, worker: Worker, carries: Mapping[int, Carries], now: float) -> bool:
    """It is not told to stop yet, although it is quiet: connections of it may still be carried.

    So may one whose answer pauses, once that is whole.  If its worker were told to stop, it would
    close it then without having said so, and its client might have asked again.
    """
    its = carries.get(worker.id)
    if its is None or worker not in _draining(instance):
        return False
    soon = its.soon > 0 and now < max(_since(worker, its), its.answering) + _PATIENCE
    return _old(its, now) or its.answered > 0 or soon


def unseen(instance: Instance, worker: Worker, carries: Mapping[int, Carries]) -> bool:
    """Nothing of it was carried yet that may be."""
    its = carries.get(worker.id)
    return its is not None and not its.looked and worker in _draining(instance)


def deadline(instance: Instance, carries: Mapping[int, Carries]) -> float:
    """When a look is due; infinity for never."""
    there = [its for one in _draining(instance) if (its := carries.get(one.id)) is not None]
    there += [its for _, its in _stalled(instance, carries)]
    return min((its.due for its in there), default=float("inf"))


def _old(its: Carries, now: float) -> bool:
    return now >= its.looked + _FRESH


def _since(worker: Worker, its: Carries) -> float:
    return max(its.progress, its.began, worker.draining_since)


def _draining(instance: Instance) -> list[Worker]:
    """The workers whose connections may go to others."""
    if instance.phase not in _PHASES or not any(weight for _, weight in instance.shared):
        return []
    return [one for one in instance.living if one.stage is Stage.DRAINING and not one.finisher]


def _stalled(instance: Instance, carries: Mapping[int, Carries]) -> list[tuple[int, Carries]]:
    """The workers that have lost their share because they stall, while others have one."""
    sharing = {worker for worker, weight in instance.shared if weight}
    if instance.phase not in _PHASES or not sharing:
        return []
    serving = [one.id for one in instance.living if one.stage is Stage.SERVING]
    return [
        (one, its)
        for one in serving
        if one not in sharing and (its := carries.get(one)) is not None and its.stalls
    ]
