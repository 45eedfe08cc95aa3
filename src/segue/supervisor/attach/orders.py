"""Orders for an attached group, and its status in the shape that a ``segue run`` has.

A *worker* is a listener here: ``worker3`` is the one in slot 3 of the program's table.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from segue.engine.attached import AttachedListener
from segue.errors import UsageError
from segue.group import Listener
from segue.linux import proc
from segue.observe.snapshot import Part
from segue.policy.counts import Counts
from segue.supervisor.control import map_order
from segue.supervisor.control.requests import (
    Detach,
    Map,
    Promote,
    Request,
    Rescue,
    Rollback,
    Shift,
    Status,
    Stop,
    Trace,
    Weights,
)
from segue.supervisor.control.server import Client
from segue.supervisor.settings import patience
from segue.supervisor.workers.survey import describe

if TYPE_CHECKING:
    from segue.supervisor.attach.follower import Follower

ORDERS = (Status, Shift, Rollback, Promote, Weights, Stop, Detach, Trace, Map, Rescue)


class Orders:
    """The verbs of one attended group."""

    def __init__(self, follower: Follower) -> None:
        self.follower = follower

    def do(self, client: Client, request: Request) -> None:
        """Carry out one request.  Raises SegueError, with nothing changed, when it cannot."""
        follower = self.follower
        if not isinstance(request, ORDERS):
            raise UsageError(
                f"{request.verb} is no order for a group that Segue did not start: its servers are"
                f" restarted their own way (orders here: {', '.join(one.verb for one in ORDERS)})"
            )
        match request:
            case Status():
                client.end(0, status=report(follower))
            case Shift(percent):
                generation = follower.attached.shift(percent)
                follower.changed()
                client.end(0, generation=generation, percent=percent)
            case Rollback():
                self._all(client, 0.0)
            case Promote():
                self._all(client, 100.0)
            case Weights(weights):
                follower.attached.weigh(weights)
                follower.changed()
                client.end(0)
            case Map():
                groups = {str(follower.settings.address): follower.attached.steering}
                map_order.answer(client, request, groups)
            case Trace():
                follower.tracing.begin(client, 0, follower.attached.steering, follower.borrow)
            case Rescue(after):
                self._refuse_other(request.address)
                follower.rescue_for(client, patience(after, "--after"))
            case Stop():
                follower.end()
                client.end(0)
            case Detach():
                self._refuse_other(request.address)
                follower.detach()
                client.end(0)

    def _all(self, client: Client, percent: float) -> None:
        self.follower.attached.shift(percent)
        self.follower.changed()
        client.end(0, generation=_working(self.follower.parts()))

    def _refuse_other(self, address: str) -> None:
        here = str(self.follower.settings.address)
        if address not in {"", here}:
            raise UsageError(f"{self.follower.paths.name} is attached to {here}")


def report(follower: Follower) -> dict[str, Any]:
    """One look at everything; cookies name sockets, times are seconds."""
    attached, settings = follower.attached, follower.settings
    rescue = follower.watched.rescue if follower.watched else None
    group = follower.observer.snapshot(
        settings.address, Part.OWNERS, Part.REQUESTS, Part.CONNECTIONS
    )
    accepts = accepting(group.listeners)
    counts = attached.steering.counts()
    by_hash = counts.pop(None)
    parts = follower.parts()
    working = _working(parts)
    newest = max(parts, default=0)
    workers = []
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
            {
                "generation": member.generation,
                "id": member.slot,
                "pid": pid,
                "command": proc.command(pid) if pid else "?",
                "stage": _stage(member, working, shares=member.slot in attached.entitled),
                "age": round(boot - started, 3),
                "share": round(100 * weight / total, 2),
                "queue": listener.queue,
                "drops": listener.drops,
                "connections": len(group.held_by(holders)),
                "new": count.new,
                "migrated": count.migrated,
                "slots": [(str(settings.address), member.slot)],
                **(rescue.status(member.slot) if rescue else {}),
            }
        )
    known = attached.members.keys()
    return {
        "name": follower.paths.name,
        "pid": os.getpid(),
        "phase": "canary" if 0 < attached.percent.get(newest, 100) < 100 else "attached",
        "engine": attached.steering.name,
        "reasons": [
            *follower.choice.reasons,
            f"generations by {attached.rule.name}; {attached.strength} listener(s) are wanted",
            "the kernel tells who comes and goes"
            if follower.membership.traced
            else f"listeners are listed at a pace: {follower.membership.why}",
        ],
        "working": working,
        "newcomer": newest if newest != working else 0,
        "size": len(attached.members),
        "moved": rescue.rescued if rescue else 0,
        "rescue": (rescue.thresholds.patience or 0.0) if rescue else 0.0,
        "rescued": rescue.rescued if rescue else 0,
        "cut": 0,
        "flip_ms": None,
        "flip_age": None,
        "command": [],
        "fronts": [
            {
                "name": "",
                "address": str(settings.address),
                "listeners": len(group.listeners),
                "half_open": len(group.requests),
                "counts": asdict(sum(counts.values(), attached.gone)),
                "by_hash": by_hash.new + by_hash.migrated,
                "traced": follower.tracing.traces(0),
                "strangers": [describe(one) for one in group.listeners if one.cookie not in known],
            }
        ],
        "workers": workers,
    }


def _working(parts: Mapping[int, tuple[int, float]]) -> int:
    """The generation that gets most; 0 when there is none."""
    return max(parts, key=lambda one: (parts[one][1], one), default=0)


def accepting(listeners: Iterable[Listener]) -> dict[int, tuple[int, ...]]:
    """By cookie: of several owners those that watch it by epoll, if any do; else all.

    Every worker of nginx has the listeners of all its siblings, and so has the one that forked it.
    """
    listeners = list(listeners)
    several = {pid for one in listeners if len(one.owners) > 1 for pid in one.owners}
    watched = {}
    for pid in several:
        polled = proc.polled(pid)
        watched[pid] = {inode for inode, fd in proc.sockets(pid).items() if fd in polled}
    found = {}
    for one in listeners:
        watching = [pid for pid in one.owners if one.inode in watched.get(pid, ())]
        found[one.cookie] = tuple(watching) or one.owners
    return found


def youngest(pids: Sequence[int]) -> tuple[int, float]:
    """The process that was started last, and when in seconds since boot."""
    ages = [(proc.start_seconds(pid) or 0.0, pid) for pid in pids]
    started, pid = max(ages, default=(time.clock_gettime(time.CLOCK_BOOTTIME), 0))
    return pid, started


def _stage(member: AttachedListener, working: int, *, shares: bool) -> str:
    if not member.ready:
        return "starting"
    if shares:
        return "serving"
    return "draining" if member.generation < working else "standby"
