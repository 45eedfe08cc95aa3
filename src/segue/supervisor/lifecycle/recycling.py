"""Recycling: when a worker that serves is replaced, by its age, its memory or its connections.

A successor is started first and takes the share; then the worker drains like any other that has
none.  ``look`` decides which worker, when, and what is said.  One at a time: ``Instance.recycling``
names it, and the plan does the rest, by its ``outgoing``.
"""

from __future__ import annotations

from dataclasses import replace
from zlib import crc32

from segue.supervisor.lifecycle.crashes import SLOWEST
from segue.supervisor.lifecycle.ending import ENDING
from segue.supervisor.lifecycle.instance import Instance, Recycling, Worker
from segue.supervisor.lifecycle.limits import Limits
from segue.supervisor.lifecycle.stages import Phase, Stage

MB = 1 << 20
# Each worker has limits of its own, up to this part below those of the settings.  Workers that
# started together then do not all come to an end together, and none exceeds what was asked for.
JITTER = 0.1
# A worker that reaches a limit before it has served for this many times its start, or for so many
# seconds, costs more than it gives.  If its successors do so too, pauses between them double.
_WORTH, _SHORT = 3.0, 3.0
_LONGEST_PAUSE = 60.0
_NEW = frozenset({Stage.STARTING, Stage.STANDBY})
# Why recycling waits, where that is not worth a line of the log.
_BUSY = "other workers start or drain"
_PAUSE = "workers reach their limits too soon"
_PHASES = {
    Phase.STARTING: "no generation serves yet",
    Phase.RENEWING: "a restart is under way",
    Phase.CANARY: "a canary is under way",
}


def limits_of(worker: Worker, limits: Limits) -> Limits:
    """The limits at which this worker is recycled: by its id and start time, always the same."""
    chance = crc32(f"{worker.start_ticks} {worker.id}".encode()) / (1 << 32)
    part = 1 - JITTER * chance
    return replace(
        limits,
        max_lifetime=limits.max_lifetime * part,
        max_rss=int(limits.max_rss * part),
        max_connections=max(1, int(limits.max_connections * part)) * bool(limits.max_connections),
    )


def excess(worker: Worker, limits: Limits, now: float) -> tuple[float, str]:
    """By how much a worker has reached a limit (at least 1), and why; (0, "") if it has not.

    Of several limits, the one that it exceeds most.
    """
    own, age = limits_of(worker, limits), now - worker.started
    memory = f"{worker.memory / MB:.0f} MB of {own.max_rss / MB:.0f} MB"
    given = f"{worker.given} of {own.max_connections} connections"
    lived = f"{age:.0f} s of {own.max_lifetime:.0f} s"
    found = [
        (has / most, why)
        for has, most, why in (
            (worker.memory, own.max_rss, f"{memory} (--max-rss {limits.max_rss / MB:.0f}M)"),
            (
                worker.given,
                own.max_connections,
                f"{given} (--max-connections {limits.max_connections})",
            ),
            (age, own.max_lifetime, f"{lived} (--max-lifetime {limits.max_lifetime:g})"),
        )
        if 0 < most <= has
    ]
    return max(found, default=(0.0, ""))


def barred(instance: Instance) -> str:
    """Why no worker may be recycled in this phase, even if that has begun; "" if one may."""
    if instance.phase in ENDING:
        return "the instance stops"
    if instance.rolled_back and instance.phase is Phase.SERVING:
        return (
            "after a rollback, a successor could run the version that was rolled back; segue"
            " restart ends this"
        )
    return _PHASES.get(instance.phase, "")


def look(instance: Instance, limits: Limits, now: float) -> list[str]:
    """Begin, go on with and end the recycling of one worker; what is to be said of it.

    To be called about once a second, with fresh ``memory`` and ``given`` of every worker.
    """
    before = instance.recycling
    if before is not None and not before.waits:
        worker = instance.workers.get(before.worker)
        if worker is None or not worker.live or worker.generation != instance.working:
            instance.recycle_after = now + _pause(instance.hasty)
        elif worker.stage is Stage.SERVING and barred(instance):
            worker.outgoing = ""  # its successor is one too many until it begins again
        else:
            return _follow(instance, before, worker)
    over = []
    for one in instance.of(instance.working, Stage.SERVING):
        ratio, why = excess(one, limits, now)
        one.over_since = (one.over_since or now) if ratio else 0.0
        if ratio and not one.fault:
            over.append((ratio, why, one))
    if not over:
        instance.recycling = None
        return []
    _, why, worker = max(over, key=lambda one: one[0])
    waits = _waits(instance, now)
    instance.recycling = Recycling(worker.id, why, instance.last_worker, waits)
    if not waits:
        worker.outgoing = why
        said = f"{worker.name} is recycled: {why}; its successor starts"
        return [said, *_haste(instance, worker)]
    known = before is not None and (before.worker, before.waits) == (worker.id, waits)
    quiet = known or waits in {_BUSY, _PAUSE}
    return [] if quiet else [f"{worker.name} is to be recycled ({why}), and waits: {waits}"]


def forget(instance: Instance) -> None:
    """Nobody is recycled any more: the limits are gone."""
    current, instance.recycling = instance.recycling, None
    worker = instance.workers.get(current.worker) if current else None
    if worker is not None and worker.stage is Stage.SERVING and not worker.hangs:
        worker.outgoing = ""


def sentence(instance: Instance, worker: Worker) -> str:
    """What there is to know of this worker's recycling; "" if there is none."""
    current = instance.recycling
    if current is None or current.worker != worker.id:
        return ""
    if current.waits:
        return f"{current.why}; that waits: {current.waits}"
    return current.why + ("; no successor was ready so far" if current.failing else "")


def _waits(instance: Instance, now: float) -> str:
    bar = barred(instance)
    if bar:
        return bar
    serving = instance.of(instance.working, Stage.SERVING)
    if instance.replacing or not instance.size <= len(serving) == len(instance.living):
        return _BUSY
    return _PAUSE if now < instance.recycle_after else ""


def _follow(instance: Instance, current: Recycling, worker: Worker) -> list[str]:
    """Say once that the worker serves on because successors fail."""
    tried = instance.last_worker - current.before
    starting = instance.of(instance.working, *_NEW)
    if worker.stage is not Stage.SERVING or current.failing:
        return []
    if tried < 1 or (tried < 2 and starting):
        return []
    instance.recycling = replace(current, failing=True)
    said = (
        f"{worker.name} serves on until a successor is ready; none was after {tried} start(s), and"
        f" others are tried, at most {SLOWEST:g} s apart"
    )
    return [said]


def _haste(instance: Instance, worker: Worker) -> list[str]:
    """Count workers that reach a limit too soon, one after the other; say it of the first."""
    served, start = worker.over_since - worker.stage_since, worker.stage_since - worker.started
    if served >= max(_SHORT, _WORTH * start):
        instance.hasty = 0
        return []
    instance.hasty += 1
    if instance.hasty != 1:
        return []
    said = (
        f"{worker.name} reached its limit after {served:.1f} s of serving (its start took"
        f" {start:.1f} s): while this goes on, there are longer and longer pauses before the next"
        f" worker is recycled, up to {_LONGEST_PAUSE:g} s"
    )
    return [said]


def _pause(hasty: int) -> float:
    return min(_LONGEST_PAUSE, 2.0 ** min(hasty, 8) / 2) if hasty else 0.0
