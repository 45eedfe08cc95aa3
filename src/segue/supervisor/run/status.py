"""The status of an instance of ``segue run``."""

from __future__ import annotations

import os
import time
from dataclasses import asdict

from segue.engine.steering import variables_of
from segue.observe.snapshot import Part
from segue.supervisor.control.status import (
    FrontStatus,
    GenerationStatus,
    Status,
    WorkerStatus,
)
from segue.supervisor.lifecycle.newcomers import mixture, progress
from segue.supervisor.lifecycle.recycling import sentence
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.lifecycle.turn import awaited
from segue.supervisor.run.checks import Checks
from segue.supervisor.run.service import Service
from segue.supervisor.workers.survey import describe, unheld
from segue.version import VERSION


def report(service: Service, checks: Checks) -> Status:
    """One look at everything."""
    rescue, health = checks.rescue, checks.health
    instance, now = service.instance, service.world.now()
    weights = dict(instance.shared)
    total = sum(weights.values()) or 1.0
    fronts: list[FrontStatus] = []
    connections: dict[int, int] = {}
    queues: dict[int, int] = {}
    drops: dict[int, int | None] = {}
    selected: dict[int, tuple[int, int]] = {}
    carried = service.carrying.total
    by_slot = {
        (held.bind, held.slot): worker.id for worker in instance.living for held in worker.listeners
    }
    trees, crowded = service.processes.trees()
    pids = frozenset().union(*trees.values())
    left_out = {one.worker.id: service.flow.left_out(one.pipe) for one in service.processes}
    for front in service.fronts:
        group = service.observer.snapshot(
            front.bind.address, Part.REQUESTS, Part.CONNECTIONS, pids=pids
        )
        counts = front.counts()
        for worker, tree in trees.items():
            connections[worker] = connections.get(worker, 0) + len(group.held_by(tree))
        for worker_ in instance.living:
            for held in worker_.listeners:
                listener = group.by_cookie(held.cookie)
                if held.bind == front.number and listener is not None:
                    queue = max(0, listener.queue - checks.liveness.waiting(held))
                    queues[worker_.id] = queues.get(worker_.id, 0) + queue
                    before = drops.get(worker_.id, 0)
                    told = before is not None and not front.waits_for_data(held.slot)
                    drops[worker_.id] = (before or 0) + listener.drops if told else None
        for slot, count in counts.items():
            if slot is None:
                continue
            known = by_slot.get((front.number, slot))
            if known is not None:
                new, migrated = selected.get(known, (0, 0))
                selected[known] = (new + count.new, migrated + count.migrated)
        by_hash = counts.get(None)
        by_share = [count for slot, count in counts.items() if slot is not None]
        fronts.append(
            FrontStatus(
                name=front.bind.name,
                address=str(front.bind.address),
                restored=front.restored,
                listeners=len(group.listeners),
                half_open=len(group.requests),
                counts=asdict(sum(by_share, front.gone)) if counts else {},
                variables=variables_of(front.steering),
                traced=service.tracing.traces(front.number),
                by_hash=0 if by_hash is None else by_hash.new + by_hash.migrated,
                standby=front.standby is not None,
                strangers=tuple(
                    f"left behind by {front.left[one.cookie]}: {describe(one)}"
                    if one.cookie in front.left
                    else describe(one)
                    for one in unheld(group, front, service.processes)
                ),
            )
        )
    return Status(
        version=VERSION,
        name=service.paths.name,
        pid=os.getpid(),
        phase=instance.phase.name.lower(),
        engine=service.choice.engine,
        object=service.settings.object,
        policy=service.settings.policy,
        reasons=tuple(service.choice.reasons),
        working=instance.working,
        newcomer=instance.newcomer,
        size=instance.size,
        settings_changed=service.source.changed(),
        queued=awaited(instance) if instance.queued is not None else "",
        outage=service.outage.sentence(now),
        events=dict(service.chronicle.totals),
        failure=_failure(service),
        progress=progress(instance) or mixture(instance),
        moved=service.moved,
        cut=service.cut,
        unread=service.log.lost,
        notifications_dropped=service.doors.inbox.dropped if service.doors.inbox else 0,
        rescue=rescue.thresholds.patience or 0.0,
        balance=service.settings.balance,
        carry=service.carrying.how,
        carry_reason=service.carrying.why,
        carried=carried.carried,
        carried_unread=carried.unread,
        carried_stalled=carried.stalled,
        carry_delayed=carried.delayed,
        carry_lost=carried.lost,
        left_alone={why.value: count for why, count in carried.left.items()},
        held_wanted=service.holding.wanted,
        held=service.holding.held,
        held_reason=service.holding.why,
        held_carried=service.holding.orphans.after_ends.carried,
        held_ended={
            why.value: count for why, count in service.holding.orphans.after_ends.left.items()
        },
        waiting_idle=service.holding.orphans.waiting,
        went_on=service.holding.orphans.went_on,
        leftovers=service.settings.leftovers,
        gives_way=str(service.processes.weights.groups.means or ""),
        rescued=rescue.rescued,
        flip_ms=service.flipped.ms,
        flip_age=None if service.flipped.at is None else now - service.flipped.at,
        command=tuple(service.settings.command),
        generations=tuple(
            GenerationStatus(
                generation=number,
                directory=start.directory,
                resolved=start.resolved,
                program=start.program,
                started=round(time.time() - (now - start.at), 3),
            )
            for number, start in instance.starts.items()
        ),
        fronts=tuple(fronts),
        workers=tuple(
            WorkerStatus(
                generation=one.generation,
                id=one.id,
                pid=one.pid,
                stage=one.stage.name.lower(),
                age=round(now - one.started, 3),
                directory=one.directory,
                weight=round(instance.balance.get(one.id, 1.0), 3),
                share=round(100 * weights.get(one.id, 0.0) / total, 2),
                queue=queues.get(one.id, 0),
                drops=drops.get(one.id, 0),
                # Nobody knows of which, where there are more processes than can be looked at.
                connections=None if one.id in crowded else connections.get(one.id, 0),
                new=selected.get(one.id, (0, 0))[0],
                migrated=selected.get(one.id, (0, 0))[1],
                missing=one.missing if one.stage is Stage.STARTING else "",
                memory=one.memory,
                given=one.given,
                recycling=sentence(instance, one),
                left_out=left_out.get(one.id, 0),
                slots=tuple(
                    (str(service.fronts[held.bind].bind.address), held.slot)
                    for held in one.listeners
                ),
                stalled=rescue.stalled(one.id),
                stalls=rescue.history(one.id).stalls,
                rescued=rescue.history(one.id).rescued,
                hangs=str(health.hangs.get(one.id, "")) if one.stage is Stage.SERVING else "",
                failing=str(health.failing.get(one.id, "")),
                outgoing=one.outgoing,
            )
            for one in instance.living
        ),
    )


def _failure(service: Service) -> str:
    event = service.chronicle.failure
    if event is None:
        return ""
    ago = max(0.0, service.world.clock() - event.at)
    return f"the {event.what} failed {ago:.0f} s ago: {event.why}"
