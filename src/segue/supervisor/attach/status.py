"""The status of an attached group, in the shape that an instance of ``segue run`` has.

A *worker* is a listener here: ``worker3`` is the one in slot 3 of the program's table.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from segue.engine.attached import Attached, AttachedListener
from segue.linux import proc
from segue.observe.snapshot import Part
from segue.policy.counts import Counts
from segue.supervisor.attach.attachment import Attachment
from segue.supervisor.attach.owners import accepting, youngest
from segue.supervisor.control.status import FrontStatus, Status, WorkerStatus
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.workers.carrying import Carrying
from segue.supervisor.workers.survey import describe
from segue.version import VERSION


def report(attachment: Attachment) -> Status:
    """One look at everything."""
    attached, settings, rescue = attachment.attached, attachment.settings, attachment.rescue
    group = attachment.observer.snapshot(
        settings.address, Part.OWNERS, Part.REQUESTS, Part.CONNECTIONS
    )
    accepts = accepting(group.listeners)
    counts = attached.steering.counts()
    by_hash = counts.pop(None)
    parts = parts_of(attached)
    most = working(parts)
    newest = max(parts, default=0)
    workers: list[WorkerStatus] = []
    counted: set[int] = set()
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    total = sum(attached.weights.values()) or 1.0
    for member in sorted(attached.members.values(), key=lambda one: (one.generation, one.slot)):
        listener = group.by_cookie(member.cookie)
        if listener is None:
            continue
        # A connection of a process that has several of these listeners is counted once.
        holders = frozenset(listener.owners) - counted
        counted |= holders
        pid, started = youngest(accepts[member.cookie])
        count = counts.get(member.slot, Counts())
        weight = attached.weights.get(member.slot, 0.0)
        workers.append(
            WorkerStatus(
                generation=member.generation,
                id=member.slot,
                pid=pid,
                command=proc.command(pid) if pid else "?",
                stage=_stage(attached, member, most),
                age=round(boot - started, 3),
                share=round(100 * weight / total, 2),
                queue=listener.queue,
                drops=(None if attachment.front.waits_for_data(member.slot) else listener.drops),
                connections=len(group.held_by(holders)),
                new=count.new,
                migrated=count.migrated,
                slots=((str(settings.address), member.slot),),
                missing="" if member.ready else member.missing,
                stalled=rescue.stalled(member.slot) if rescue else None,
                stalls=rescue.history(member.slot).stalls if rescue else 0,
                rescued=rescue.history(member.slot).rescued if rescue else 0,
            )
        )
    known = attached.members.keys()
    return Status(
        version=VERSION,
        name=attachment.paths.name,
        pid=os.getpid(),
        phase="canary" if 0 < attached.percent.get(newest, 100) < 100 else "attached",
        engine=attached.steering.name,
        policy=settings.program_choice.policy,
        object=settings.program_choice.object,
        reasons=(
            *attachment.choice.reasons,
            f"generations by {attached.rule.name}; {attached.strength} listener(s) are wanted",
            "the kernel tells who comes and goes"
            if attachment.membership.traced
            else f"listeners are listed at a pace: {attachment.membership.why}",
        ),
        working=most,
        newcomer=newest if parts and newest != most else None,
        size=len(attached.members),
        unread=attachment.log.lost,
        moved=rescue.rescued if rescue else 0,
        rescue=(rescue.thresholds.patience or 0.0) if rescue else 0.0,
        rescued=rescue.rescued if rescue else 0,
        **_carried(attachment.carrying),
        fronts=(
            FrontStatus(
                name="",
                address=str(settings.address),
                listeners=len(group.listeners),
                half_open=len(group.requests),
                counts=asdict(sum(counts.values(), attached.gone)),
                by_hash=by_hash.new + by_hash.migrated,
                restored=attachment.front.restored,
                traced=attachment.tracing.traces(0),
                strangers=tuple(
                    describe(one) for one in group.listeners if one.cookie not in known
                ),
            ),
        ),
        workers=tuple(workers),
    )


def _carried(carrying: Carrying | None) -> dict[str, Any]:
    """What the status says of kept connections; nothing where that was not asked for."""
    if carrying is None:
        return {}
    total = carrying.total
    return {
        "carry": carrying.how, "carry_reason": carrying.why, "carried": total.carried,
        "carried_unread": total.unread, "carry_lost": total.lost,
        "left_alone": {why.value: count for why, count in total.left.items()},
    }  # fmt: skip


def parts_of(attached: Attached) -> dict[int, tuple[int, float]]:
    """Generation -> its listeners and its percentage of new connections."""
    total = sum(attached.weights.values()) or 1.0
    found: dict[int, tuple[int, float]] = {}
    for one in attached.members.values():
        count, part = found.get(one.generation, (0, 0.0))
        part += 100 * attached.weights.get(one.slot, 0.0) / total
        found[one.generation] = count + 1, part
    return dict(sorted(found.items()))


def working(parts: Mapping[int, tuple[int, float]]) -> int | None:
    """The generation that gets most; None when there is none."""
    return max(parts, key=lambda one: (parts[one][1], one), default=None)


# Nobody tells us how a listener stands, as a worker of our own does: it follows from what is seen.
# (has accepted, has a share, is older than who gets most) -> as a worker stands
STAGES: Mapping[tuple[bool, bool, bool], Stage] = {
    (False, False, False): Stage.STARTING,
    (False, False, True): Stage.STARTING,
    # Where none has accepted yet, all have a share.
    (False, True, False): Stage.STARTING,
    (False, True, True): Stage.STARTING,
    (True, False, False): Stage.STANDBY,
    (True, False, True): Stage.DRAINING,
    (True, True, False): Stage.SERVING,
    (True, True, True): Stage.SERVING,
}


def _stage(attached: Attached, member: AttachedListener, most: int | None) -> str:
    older = most is not None and member.generation < most
    return STAGES[member.ready, member.slot in attached.entitled, older].name.lower()
