"""Workers whose supervisor and its record are both gone, known by what their environment says.

A cleaner may take the files while nobody is there to make them again, and a service manager removes
RuntimeDirectory= and a private /tmp with the service.  The workers serve on.  Their environment
names instance, generation and worker.  It may be written over, so that the kernel must agree: only
a process of a user that workers have counts, only with a listener at an address of the instance,
and only if that listener is of the user who would have opened it.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass

from segue.errors import SegueError
from segue.group import Listener
from segue.linux import proc
from segue.observe.snapshot import Observer
from segue.supervisor.control import claims
from segue.supervisor.control.claims import Claim
from segue.supervisor.control.paths import Paths
from segue.supervisor.lifecycle.instance import HeldListener, Instance, Worker
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.run.record import Record
from segue.supervisor.settings import Settings
from segue.supervisor.workers.identity import Identity


@dataclass(frozen=True, slots=True)
class Found:
    """What a predecessor has left, and what is to be said of it."""

    record: Record | None  # None if no worker of it serves our addresses
    said: tuple[str, ...] = ()


def find(settings: Settings, paths: Paths, observer: Observer, now: float) -> Found:
    """The workers of this instance that serve its addresses.

    Raises SegueError if their supervisor lives, KernelError, UsageError as ``Identity.of``.
    """
    addresses = [observer.serving(bind.address) for bind in settings.binds]
    groups = [observer.snapshot(address).listeners for address in addresses]
    identity = Identity.of(settings.user, settings.group)
    users = {os.geteuid()} | ({identity.uid} if identity else set())
    openers = users if settings.bind_by == "worker" else {os.geteuid()}
    own = [[one for one in group if one.uid in openers] for group in groups]
    workers: dict[int, Worker] = {}
    taken: set[int] = set()  # cookies
    others: list[Claim] = []
    for claim in claims.everywhere():
        if claim.name != paths.name or claim.worker in workers or proc.uid(claim.pid) not in users:
            continue
        listeners = _held(claim, own, taken)
        if listeners:
            _refuse_supervised(claim)
            taken |= {one.cookie for one in listeners}
            workers[claim.worker] = _worker(claim, listeners, now)
        elif (
            claim.directory == os.path.dirname(paths.base)
            and proc.shares_namespace(claim.pid, "net")
            and not claims.supervisor(claim)
        ):
            others.append(claim)
    said = [
        f"pid {one.pid} ({proc.command(one.pid)}) says that it is worker"
        f" {one.generation}.{one.worker} of {one.name}, and serves none of its addresses: it is"
        " left alone"
        for one in others
        # A take-over tells younger ones to stop.
        if not workers or one.worker <= max(workers)
    ]
    if not workers:
        return Found(None, tuple(said))
    # Which index a listener has is not known either: a negative one says so.
    orders = tuple(tuple(-one.cookie for one in group) for group in groups)
    instance = arranged(list(workers.values()), settings, now)
    record = Record(settings, instance, settings.wanted_engine, orders)
    return Found(record, (*_said(instance), *said))


def _held(claim: Claim, own: Sequence[list[Listener]], taken: set[int]) -> list[HeldListener]:
    """Its listeners at each address, which no other worker has, in slots of their own."""
    inodes = {inode for pid in proc.tree(claim.pid) for inode in proc.sockets(pid)}
    return [
        HeldListener(bind, slot, one.cookie)
        for bind, group in enumerate(own)
        for slot, one in enumerate(group)
        if one.inode in inodes and one.cookie not in taken
    ]


def _refuse_supervised(claim: Claim) -> None:
    supervisor = claims.supervisor(claim)
    if supervisor is not None:
        raise SegueError(
            f"pid {supervisor} runs an instance named {claim.name}, as the environment of its"
            f" worker pid {claim.pid} says, and its files in {claim.directory} are not to be seen"
            f" here; segue status --name {claim.name} looks for it, and kill -TERM {supervisor}"
            " stops it"
        )


def _worker(claim: Claim, listeners: list[HeldListener], now: float) -> Worker:
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    age = boot - (proc.start_seconds(claim.pid) or boot)
    return Worker(
        claim.worker,
        claim.generation,
        claim.pid,
        started=now - age,
        start_ticks=claim.born,
        listeners=tuple(listeners),
        pipe=_pipe(claim.pid),
    )


def _pipe(pid: int) -> int:
    """The inode of the pipe that it prints into; 0 if that cannot be ours.

    A worker has ours open for reading too, and what somebody else gave it most likely not.
    """
    try:
        found = os.stat(f"/proc/{pid}/fd/1")
    except OSError:
        return 0
    ours = stat.S_ISFIFO(found.st_mode) and proc.reads_and_writes(pid, 1)
    return found.st_ino if ours else 0


def arranged(workers: Sequence[Worker], settings: Settings, now: float) -> Instance:
    """An instance of these workers, which have no stage yet.

    Of several generations the newest is the one that was starting, was a canary, or serves.  It is
    asked whether it is ready, and serves then.  A worker that only notifies has said so long ago:
    it counts as ready.
    """
    generations = sorted({one.generation for one in workers})
    newest, before = generations[-1], generations[:-1]
    asked = bool(before) and settings.ready != "notify"
    working = before[-1] if asked else newest
    for one in workers:
        one.stage_since = now
        if one.generation > working:
            one.stage, one.started = Stage.STARTING, now
        elif one.generation == working:
            one.stage = Stage.SERVING
        else:
            one.stage, one.draining_since = Stage.DRAINING, now
    return Instance(
        size=settings.workers,
        begun=min(one.started for one in workers),
        phase=Phase.RENEWING if asked else Phase.SERVING,
        working=working,
        newcomer=newest if asked else None,
        last_generation=newest,
        last_worker=max(one.id for one in workers),
        workers={one.id: one for one in sorted(workers, key=lambda one: one.id)},
    )


def _said(instance: Instance) -> list[str]:
    count = len(instance.workers)
    said = [f"no record: took over {count} worker(s) by what their environment says"]
    said.append("when and where their generation was started, and its weights, are not known")
    if instance.newcomer is not None:
        said.append(
            f"workers of generations {instance.working} and {instance.newcomer} run: generation"
            f" {instance.newcomer} takes all new connections once it is ready; whether it was a"
            " canary is not known"
        )
    return said
