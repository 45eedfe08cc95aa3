"""How an instance outlives its supervisor: the next one of its name takes the workers over.

Workers need nobody to serve.  The record names them, and their listeners are duplicated from them
by pidfd_getfd(2).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from segue.engine.duplicate import duplicate
from segue.engine.steering import IndexAddressed
from segue.errors import KernelError
from segue.linux import pidfd, proc
from segue.supervisor.control.history import read
from segue.supervisor.control.log import Log
from segue.supervisor.control.paths import Paths
from segue.supervisor.lifecycle.ending import ENDING
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.stages import Phase, Stage, WorkerInput
from segue.supervisor.run.record import UNREADABLE, Record
from segue.supervisor.run.runner import Runner
from segue.supervisor.run.service import Asked, Service
from segue.supervisor.run.upgrade import refuse_others
from segue.supervisor.settings import Settings
from segue.supervisor.workers.pipe import Pipe
from segue.supervisor.workers.spawn import Child, outcome
from segue.supervisor.world import World
from segue.worker import VARIABLE


def anyone_alive(record: dict[str, Any]) -> bool:
    """Some worker that the record names runs still; not, if it cannot be read."""
    try:
        return any(_runs(one) for one in Instance.from_json(record["instance"]).living)
    except UNREADABLE:
        return False


def _runs(worker: Worker) -> bool:
    return worker.pid > 0 and worker.start_ticks == proc.start_time(worker.pid)


def take_over(
    record: Record,
    asked: Asked,
    paths: Paths,
    lock: int,
    log: Log,
    world: World,
    said: Sequence[str] = (),
) -> Runner:
    """A runner for the workers that a dead supervisor left.

    A restart that was under way goes on where it stood.  ``said`` is told instead of their number.
    Raises UsageError when the addresses are not those that the workers serve.
    """
    settings, instance = asked.settings, record.instance
    refuse_others(record.settings, settings, paths)
    wanted = settings.wanted_engine
    choice = world.choose(record.engine if wanted == "auto" else wanted)
    service = Service(
        settings, paths, lock, log, choice, world, instance, asked.source, asked.reread
    )
    runner = Runner(service)
    service.chronicle.adopt(read(paths), instance)
    for front, order in zip(service.fronts, record.orders, strict=True):
        if isinstance(front.steering, IndexAddressed):
            front.steering.adopt_order(order)
    service.remember_left(record)
    for worker in list(instance.workers.values()):
        if worker.live:
            _readopt(runner, worker)
    identity = service.processes.identity
    users = {os.geteuid(), identity.uid if identity else os.geteuid()}
    for pid, born in _unknown(paths, instance, users):
        service.warn(f"pid {pid} was started just before that supervisor died: it is told to stop")
        pidfd.signal_same(pid, born, signal.SIGTERM)
    instance.shared = ()  # the steering is new: its shares must be written again
    # The record has those of some moment; a few seconds tell who is slow now.
    instance.balance.clear()
    kept = sum(1 for one in instance.living)
    said = said or [f"took over {kept} worker(s) of a supervisor that died"]
    service.chronicle.note("take-over", said[0])
    for text in said:
        service.say(text)
    follow(runner, record.settings)
    return runner


def follow(runner: Runner, before: Settings) -> None:
    """Act on what the settings ask for now and did not before."""
    service = runner.service
    settings, instance = service.settings, service.instance
    if settings.workers != before.workers:
        instance.size = settings.workers
        service.say(f"{settings.workers} workers from now on")
    what = (
        *("command", "chdir", "env", "env_file", "user", "group"),
        *("keep_capability", "allow_new_privileges"),
    )
    changed = [one for one in what if getattr(before, one) != getattr(settings, one)]
    if changed:
        service.say(f"the {' and '.join(changed).replace('_', ' ')} changed since: restarting")
        if instance.phase not in ENDING:
            runner.orders.restart(by="settings that have changed")
    if instance.phase is Phase.STOPPING:
        runner.performer.refuse()


def _readopt(runner: Runner, worker: Worker) -> None:
    service, holder = runner.service, _held(worker)
    if holder is None:
        worker.outcome = outcome(None)
        worker.feed(WorkerInput.EXIT, service.world.now())
        for held in worker.listeners:  # a helper of it may have inherited them
            service.fronts[held.bind].left[held.cookie] = worker.name
        worker.listeners = ()
        return
    for pid, born in {worker.pid: worker.start_ticks, **proc.below(worker.pid)}.items():
        # It may have died in the middle of a cycle, while the worker was frozen.
        pidfd.signal_same(pid, born, signal.SIGCONT)
    holds = []
    for held in worker.listeners:
        front = service.fronts[held.bind]
        front.find()
        listener = front.observer.snapshot(front.bind.address).by_cookie(held.cookie)
        if listener is None:
            continue
        taken = duplicate(replace(listener, owners=proc.tree(worker.pid)))
        if taken is not None:
            holds.append(front.adopt(taken, held.slot))
    worker.listeners = tuple(holds)
    pipe = None
    if service.settings.output != "raw":
        # Its output is a pipe that it holds open itself: lines written meanwhile are in there.
        with contextlib.suppress(KernelError):
            pipe = Pipe.of_descriptor(pidfd.getfd(holder, 1), worker.pipe)
    process = service.processes.add(worker, Child(worker.pid, holder), pipe)
    runner.ends.watch(process)
    if worker.stage is Stage.STOPPING:
        # The signal may have been written down and not sent; a second one does no harm.
        process.signal(service.settings.signal_number())


def _held(worker: Worker) -> int | None:
    """A pidfd of its process, the caller's to close; None when it runs no more.

    Opened first and looked at then: another process may get the pid in between.
    """
    try:
        holder = pidfd.open_process(worker.pid)
    except KernelError:
        return None
    if _runs(worker):
        return holder
    os.close(holder)
    return None


def _unknown(paths: Paths, instance: Instance, users: Collection[int]) -> list[tuple[int, int]]:
    """The worker of this instance that was started and not yet written down, if there is one.

    With its start time.  Its mark has a number that the record has not reached, and it leads a
    session: what a worker starts inherits the mark, and a name such as ``shop.web`` begins like
    ``shop``.  Anybody may give a program of theirs such a mark: only these ``users`` count.
    """
    mark = re.compile(re.escape(f"{VARIABLE}={paths.base}.w").encode() + rb"([0-9]{1,9})")
    return [
        (pid, born)
        for pid in proc.everyone()
        if (born := proc.start_time(pid)) is not None
        for entry in proc.environment(pid)
        if (found := mark.fullmatch(entry)) and int(found[1]) > instance.last_worker
        if proc.session_of(pid) == pid and proc.uid(pid) in users
    ]
