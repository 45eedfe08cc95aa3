"""The new code's side of ``segue reexec``: go on with what the old code handed over.

When that fails after all, this process starts once more without the handover, closing every
descriptor of it, and takes the workers over by the record, as after a crash.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from dataclasses import replace
from typing import Any, NoReturn

from segue.engine.programs import ProgramChoice
from segue.engine.select import EngineChoice
from segue.engine.steering import IndexAddressed, Steering
from segue.linux.sockopt import local_address
from segue.supervisor.control.history import read
from segue.supervisor.control.log import Log
from segue.supervisor.control.paths import Paths
from segue.supervisor.control.server import Client, Control
from segue.supervisor.front import STANDBY
from segue.supervisor.notify import Inbox
from segue.supervisor.run import activation
from segue.supervisor.run.handover import HandedFront, HandedWorker, Handover
from segue.supervisor.run.runner import Runner
from segue.supervisor.run.service import Asked, Service
from segue.supervisor.run.takeover import follow
from segue.supervisor.run.waiting import Awaited, Handed
from segue.supervisor.source import go_where_it_leads, own_program
from segue.supervisor.workers.pipe import Pipe
from segue.supervisor.workers.spawn import Child
from segue.supervisor.world import World


def resume(handed: Handover, asked: Asked, paths: Paths, log: Log, world: World) -> Runner:
    """The runner that goes on where the old code stopped."""
    record, settings, instance = handed.record, handed.record.settings, handed.record.instance
    by_front = iter(zip(handed.fronts, record.orders, strict=True))

    def steering(engine: str, program_choice: ProgramChoice) -> Steering:
        front, order = next(by_front)
        made = world.restore(engine, program_choice, front.steering)
        if isinstance(made, IndexAddressed):
            made.adopt_order(order)
        return made

    lock = paths.lock() if handed.lock is None else handed.lock
    os.set_inheritable(lock, False)
    choice = EngineChoice(record.engine, handed.nudge, handed.reasons)
    given = replace(world, steering=steering)
    service = Service(
        settings, paths, lock, log, choice, given, instance, handed.source or asked.source,
        asked.reread,
    )  # fmt: skip
    runner = Runner(service)
    if runner.balancing is None:
        instance.balance.clear()
    # Where maps went over, members are in them; else they join a new steering again.
    anew = bool(settings.program_choice) or not all(one.steering for one in handed.fronts)
    _hold_listeners(service, handed.fronts, anew=anew)
    service.remember_left(record)
    if anew:
        instance.shared = ()
    service.unclaimed = list(handed.unclaimed)
    for worker in instance.living:
        child, pipe = _process(worker.pid, handed.workers[worker.id])
        runner.ends.watch(service.processes.add(worker, child, pipe))
    service.processes.files = handed.files
    service.moved, service.cut, service.exit_code = handed.moved, handed.cut, handed.exit_code
    service.carrying.account.adopt(handed.carried)
    service.leftovers.adopt(handed.leftovers)
    service.waiting.adopt(handed.clients, service.processes)
    control, inbox = _socket(handed.control), _socket(handed.inbox)
    runner.open(
        Control.of(control, paths.control) if control else None,
        Inbox.of(inbox, paths.notify) if inbox else None,
    )
    said = f"new code (pid {os.getpid()}) goes on with {len(instance.living)} worker(s)"
    service.chronicle.adopt(read(paths), instance)
    service.chronicle.note("reexec", said)
    service.say(said)
    follow(runner, handed.before)
    service.waiting.renewed()
    return runner


def _hold_listeners(service: Service, fronts: tuple[HandedFront, ...], *, anew: bool) -> None:
    for front, handed in zip(service.fronts, fronts, strict=True):
        for slot, descriptor in handed.listeners.items():
            os.set_inheritable(descriptor, False)
            front.hold(slot, socket.socket(fileno=descriptor))
            if anew:
                front.steering.join(slot, front.sockets[slot])
        if handed.standby and STANDBY in front.sockets:
            front.hold_standby(front.sockets[STANDBY])
            front.stored = handed.stored
        for listener in front.sockets.values():
            front.bind = replace(front.bind, address=local_address(listener))
        front.shared = tuple(front.sockets)
        front.opened.update(handed.opened)
        front.ours.update({} if anew else handed.ours)


def _process(pid: int, handed: HandedWorker) -> tuple[Child, Pipe | None]:
    os.set_inheritable(handed.pidfd, False)
    pipe = None
    if handed.pipe is not None:
        os.set_inheritable(handed.pipe, False)
        pipe = Pipe(handed.pipe, pending=handed.begun.encode("latin-1"))
    return Child(pid, handed.pidfd), pipe


def _socket(descriptor: int | None) -> socket.socket | None:
    if descriptor is None:
        return None
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


def start_again(handed: dict[str, Any], error: Exception, log: Log) -> NoReturn:
    """Begin anew in this process, without what was handed over: the record is on the disk."""
    why = (
        f"the new code could not go on with what it was handed ({type(error).__name__}: {error}):"
        " it takes the workers over, as after a crash"
    )
    log.say(why, "error")
    for client in _clients(handed):
        if client.awaited is Awaited.NEW_CODE:
            with contextlib.suppress(OSError):
                Client(socket.socket(fileno=client.descriptor)).end(1, error=why)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in activation.names(os.environ, os.getpid()):
            with contextlib.suppress(OSError):
                os.set_inheritable(int(name), False)
    signal.set_wakeup_fd(-1)
    go_where_it_leads(os.environ.get("PWD", ""))
    sys.stdout.flush()
    argv = [*own_program(), *sys.argv[1:]]
    os.execv(argv[0], argv)


def _clients(handed: dict[str, Any]) -> list[Handed]:
    """Those that can be told, whatever else cannot be read."""
    found = []
    for one in handed.get("clients", ()):
        with contextlib.suppress(TypeError, KeyError, ValueError):
            found.append(Handed.from_json(one))
    return found
