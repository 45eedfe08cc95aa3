"""How an instance outlives its supervisor: a crash (take_over) and an upgrade (reexec).

Workers need nobody to serve.  After a crash the record names them, and their listeners are
duplicated from them by pidfd_getfd(2).  For an upgrade the process stays the same: descriptors are
kept over exec(2) and everything else is written into a memfd that the new code reads.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from segue.engine.duplicate import duplicate
from segue.engine.programs import ProgramChoice
from segue.engine.select import EngineChoice
from segue.engine.steering import IndexAddressed, Steering, descriptors_of, moves_at_close, order_of
from segue.errors import KernelError, SegueError, UsageError
from segue.linux import pidfd, proc
from segue.supervisor.control.log import Log, Pipe
from segue.supervisor.control.paths import Paths
from segue.supervisor.control.server import Control
from segue.supervisor.front import SLOTS
from segue.supervisor.lifecycle.instance import HeldListener, Instance, Worker
from segue.supervisor.lifecycle.stages import Phase, Stage, Turn
from segue.supervisor.notify import Inbox
from segue.supervisor.run.runner import Runner
from segue.supervisor.settings import Settings
from segue.supervisor.workers.spawn import Child, outcome
from segue.supervisor.world import World
from segue.worker import VARIABLE

SUCCESSION = "SEGUE_SUCCESSION"  # the number of the memfd, over exec
_MOST_HANDED = 1 << 26  # bytes, some times what 512 workers at ten addresses are
MEMORY = "segue"  # and its name
_CHECK_SECONDS = 20.0
# What is raised by the parts of a record that are not what was written there.
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


# After a crash


def anyone_alive(record: dict[str, Any]) -> bool:
    """Some worker that the record names runs still; not, if it cannot be read."""
    try:
        return any(_runs(one) for one in Instance.from_json(record["instance"]).living)
    except _UNREADABLE:
        return False


def _runs(worker: Worker) -> bool:
    return worker.pid > 0 and worker.born == proc.start_time(worker.pid)


def take_over(
    record: dict[str, Any],
    settings: Settings,
    paths: Paths,
    lock: int,
    log: Log,
    world: World,
) -> Runner:
    """A runner for the workers that a dead supervisor left.

    A restart that was under way goes on where it stood.  Raises UsageError when the addresses
    are not those that the workers serve, SegueError when the record cannot be read.
    """
    before, instance = _read(record, paths)
    refuse_others(before, settings, paths)
    wanted = settings.wanted_engine
    if wanted == "auto":
        wanted = str(record.get("engine", "auto"))
    choice = world.choose(wanted)
    runner = Runner(settings, paths, lock, log, choice, world, instance)
    for front, order in zip(runner.fronts, record["orders"], strict=True):
        if isinstance(front.steering, IndexAddressed):
            front.steering.adopt_order(order)
    for worker in list(instance.workers.values()):
        if worker.live:
            _readopt(runner, worker)
    users = {os.geteuid(), runner.crew.identity.uid if runner.crew.identity else os.geteuid()}
    for pid, born in _unknown(paths, instance, users):
        runner.say(f"pid {pid} was started just before that supervisor died: it is told to stop")
        pidfd.signal_same(pid, born, signal.SIGTERM)
    instance.shared = ()  # the steering is new: its shares must be written again
    # The record has those of some moment; a few seconds tell who is slow now.
    instance.balance.clear()
    kept = sum(1 for one in instance.living)
    runner.say(f"took over {kept} worker(s) of a supervisor that died")
    follow(runner, before)
    return runner


def _read(record: dict[str, Any], paths: Paths) -> tuple[Settings, Instance]:
    try:
        before = Settings.from_json(record["settings"])
        instance = Instance.from_json(record["instance"])
        orders = record["orders"]
        numbers = [cookie for order in orders for cookie in order]
        if not all(isinstance(one, int) for one in numbers):
            raise TypeError("the orders are no lists of cookies")
        held = [hold for one in instance.living for hold in one.holds]
        if len(orders) != len(before.binds):
            raise ValueError("the orders are not those of the addresses")
        if not all(0 <= one.bind < len(before.binds) and 0 <= one.slot < SLOTS for one in held):
            raise ValueError("a listener is held at no address of it")
    except (*_UNREADABLE, UsageError) as error:
        raise SegueError(
            f"{paths.record} names workers that run still, and cannot be read"
            f" ({type(error).__name__}: {error!s:.100}): end these workers, remove the file, and"
            " start anew"
        ) from None
    return before, instance


def refuse_others(before: Settings, settings: Settings, paths: Paths) -> None:
    """Raise UsageError when the listeners of ``before`` are not what ``settings`` ask for."""
    served = [bind.address for bind in before.binds]
    if served != [bind.address for bind in settings.binds] or before.bind_by != settings.bind_by:
        raise UsageError(
            f"workers of {paths.name} serve {', '.join(map(str, served))}, bound by the"
            f" {before.bind_by}; go on with the same --bind and --bind-by, or give a new instance"
            " another --name"
        )
    if before.inject != settings.inject:
        raise UsageError(
            f"workers of {paths.name} were started with{'' if before.inject else 'out'} --inject:"
            " go on so, or stop the instance and start it anew"
        )


def follow(runner: Runner, before: Settings) -> None:
    """Act on what the settings ask for now and did not before."""
    settings, instance = runner.settings, runner.instance
    if settings.workers != before.workers:
        instance.size = settings.workers
        runner.say(f"{settings.workers} workers from now on")
    what = ("command", "env", "user", "group", "keep_capability", "allow_new_privileges")
    changed = [one for one in what if getattr(before, one) != getattr(settings, one)]
    if changed:
        runner.say(f"the {' and '.join(changed).replace('_', ' ')} changed since: restarting")
        if instance.phase is not Phase.STARTING:
            runner.requests.restart()


def _readopt(runner: Runner, worker: Worker) -> None:
    holder = _held(worker)
    if holder is None:
        worker.outcome = outcome(None)
        worker.feed(Turn.EXIT, runner.world.now())
        worker.holds = ()
        return
    for pid, born in {worker.pid: worker.born, **proc.below(worker.pid)}.items():
        # It may have died in the middle of a cycle, while the worker was frozen.
        pidfd.signal_same(pid, born, signal.SIGCONT)
    holds = []
    for hold in worker.holds:
        front = runner.fronts[hold.bind]
        listener = front.observer.snapshot(front.bind.address).by_cookie(hold.cookie)
        if listener is None:
            continue
        taken = duplicate(replace(listener, owners=proc.tree(worker.pid)))
        if taken is not None:
            holds.append(front.adopt(taken, hold.slot))
    worker.holds = tuple(holds)
    pipe = None
    if runner.settings.output != "raw":
        # Its output is a pipe that it holds open itself: lines written meanwhile are in there.
        with contextlib.suppress(KernelError):
            pipe = Pipe.of_descriptor(pidfd.getfd(holder, 1), worker.pipe)
    member = runner.crew.add(worker, Child(worker.pid, holder), pipe)
    runner.watch_member(member)
    if worker.stage is Stage.STOPPING:
        # The signal may have been written down and not sent; a second one does no harm.
        member.signal(runner.settings.signal_number())


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


# For an upgrade


@dataclass(slots=True)
class Succession:
    """All that the new code is given; ``exec`` does not return."""

    runner: Runner
    argv: list[str]
    settings: Settings  # as they are read now

    def exec(self) -> None:
        """Become the new code: same process, same descriptors."""
        runner = self.runner
        doors = {
            name: -1 if door is None else door.fileno()
            for name, door in (
                ("control", runner.doors.clients.control),
                ("inbox", runner.doors.inbox),
            )
        }
        lock = -1 if runner.doors.lock is None else runner.doors.lock
        keep: list[int] = [lock, *doors.values()]
        sockets = []
        for front in runner.fronts:
            sockets.append({slot: one.fileno() for slot, one in front.sockets.items()})
            keep += sockets[-1].values()
            keep += descriptors_of(front.steering).values()
        pipes = {m.worker.id: m.pipe.reader for m in runner.crew if m.pipe is not None}
        begun = runner.flow.hand_over()
        children = {m.worker.id: m.child.pidfd for m in runner.crew}
        clients = runner.requests.handed()
        keep += [*pipes.values(), *children.values(), *(number for number, *_ in clients)]
        plain = {
            "settings": self.settings.to_json(),
            "before": runner.settings.to_json(),
            "files": runner.crew.files,
            "askers": clients,
            "counts": [runner.cut, runner.moves.moved, runner.exit_code],
            "leftovers": runner.leftovers.to_json(),
            "opened": [list(front.opened) for front in runner.fronts],
            "instance": runner.instance.to_json(),
            "choice": [runner.choice.engine, runner.choice.nudge, list(runner.choice.reasons)],
            "lock": lock,
            "doors": doors,
            "sockets": sockets,
            "steering": [descriptors_of(front.steering) for front in runner.fronts],
            "orders": [order_of(front.steering) for front in runner.fronts],
            "pipes": pipes,
            "begun": {worker: begun[reader] for worker, reader in pipes.items()},
            "children": children,
            "spares": {
                generation: [[[h.bind, h.slot, h.cookie] for h in dead.holds] for dead in kept]
                for generation, kept in runner.moves.spares.items()
            },
        }
        memory = os.memfd_create(MEMORY, 0)
        with open(memory, "wb", closefd=False) as file:
            file.write(json.dumps(plain).encode())
        for fd in keep:
            if fd >= 0:
                os.set_inheritable(fd, True)
        os.environ[SUCCESSION] = str(memory)
        signal.set_wakeup_fd(-1)
        # Signals stay blocked over exec until the new code has its handlers: one that came in
        # between would end the supervisor.
        signal.pthread_sigmask(signal.SIG_BLOCK, set(runner.requests.signals))
        os.execv(self.argv[0], self.argv)


def prepare(runner: Runner) -> Succession:
    """Check that the new code starts with the settings as they are read now.

    Raises SegueError, with nothing changed, if not, and when a setting has changed that only a
    new start can change.
    """
    settings = runner.reread()
    refuse_others(runner.settings, settings, runner.paths)
    for name in ("name", "engine", "output"):
        if getattr(settings, name) != getattr(runner.settings, name):
            raise UsageError(f"--{name} cannot change while the instance runs: stop it and start")
    moves = all(moves_at_close(front.steering) for front in runner.fronts)
    if settings.program_choice and not moves:
        raise UsageError(
            f"{settings.program_choice} needs the engine migrate, and this instance runs"
            f" {runner.choice.engine}: stop it and start"
        )
    if settings.balance == "queue" and not moves:
        raise UsageError(
            "--balance queue needs the engine migrate, and this instance runs"
            f" {runner.choice.engine}: stop it and start"
        )
    argv = [sys.executable, *sys.orig_argv[1:]]
    # The arguments of ``segue`` are the end of the whole command line.
    verb = len(argv) - len(sys.argv) + 1
    check = [*argv[: verb + 1], "--check", *argv[verb + 1 :]]
    try:
        done = subprocess.run(
            check,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CHECK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SegueError(f"the new code did not load within {_CHECK_SECONDS:g} s") from None
    except OSError as error:
        doing = "trying the new code, while the old one goes on"
        raise KernelError("fork, execve", error.errno or 0, doing) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        # The verifier's words may follow the sentence; a traceback has none, and ends with it.
        last = next((line for line in lines if line.startswith("segue: ")), lines[-1])
        raise SegueError(f"the new code does not start, the old one goes on: {last}")
    return Succession(runner, argv, settings)


def handed_over() -> dict[str, Any] | None:
    """What a predecessor in this process handed over; None when there is none.

    Raises UsageError where the environment names what no predecessor can have left.
    """
    number = os.environ.pop(SUCCESSION, "")
    if not number:
        return None
    # Only ``Succession`` makes such a file, and a number of somebody else's may be any file.
    what = ""
    if number.isascii() and number.isdecimal() and len(number) < 10:
        with contextlib.suppress(OSError):
            what = os.readlink(f"/proc/self/fd/{number}")
    if not what.startswith(f"/memfd:{MEMORY} "):
        raise UsageError(
            f"{SUCCESSION} is in the environment, and is not what a supervisor hands over: unset it"
        )
    with open(int(number), "rb") as file:
        file.seek(0)
        plain = json.loads(file.read(_MOST_HANDED))
    return plain if isinstance(plain, dict) else None


def succeed(handed: dict[str, Any], paths: Paths, log: Log, world: World) -> Runner:
    """The runner that goes on where the predecessor stopped."""
    settings = Settings.from_json(handed["settings"])
    engine, nudge, reasons = handed["choice"]
    choice = EngineChoice(engine, nudge, tuple(reasons))
    instance = Instance.from_json(handed["instance"])
    by_front = iter(zip(handed["steering"], handed["orders"], strict=True))

    def steering(name: str, program_choice: ProgramChoice) -> Steering:
        descriptors, order = next(by_front)
        made = world.restore(name, program_choice, descriptors)
        if isinstance(made, IndexAddressed):
            made.adopt_order(order)
        return made

    lock = handed["lock"] if handed["lock"] >= 0 else paths.lock()
    os.set_inheritable(lock, False)
    given = replace(world, steering=steering)
    runner = Runner(settings, paths, lock, log, choice, given, instance)
    if runner.balancing is None:
        instance.balance.clear()
    # Where maps went over, members are in them; else they join a new steering again.
    anew = bool(settings.program_choice) or not all(handed["steering"])
    for front, sockets in zip(runner.fronts, handed["sockets"], strict=True):
        for slot, fd in sockets.items():
            os.set_inheritable(fd, False)
            front.sockets[int(slot)] = socket.socket(fileno=fd)
            if anew:
                front.steering.join(int(slot), front.sockets[int(slot)])
        front.shared = tuple(front.sockets)
    if anew:
        instance.shared = ()
    for generation, kept in handed["spares"].items():
        runner.moves.spares[int(generation)] = [
            Worker(0, int(generation), 0, 0.0, holds=tuple(HeldListener(*hold) for hold in holds))
            for holds in kept
        ]
    for worker in instance.living:
        holder = handed["children"][str(worker.id)]
        reader = handed["pipes"].get(str(worker.id))
        os.set_inheritable(holder, False)
        if reader is not None:
            os.set_inheritable(reader, False)
        pipe = None
        if reader is not None:
            # A line may have been read in part; other versions of Segue say nothing of it.
            begun = handed.get("begun", {}).get(str(worker.id), "")
            pipe = Pipe(reader, pending=begun.encode("latin-1"))
        member = runner.crew.add(worker, Child(worker.pid, holder), pipe)
        runner.watch_member(member)
    runner.crew.files = handed["files"] and tuple(handed["files"])
    runner.cut, runner.moves.moved, runner.exit_code = handed["counts"]
    runner.leftovers.adopt(handed["leftovers"])
    for front, opened in zip(runner.fronts, handed.get("opened", ()), strict=False):
        front.opened.update(opened)
    runner.requests.adopt(handed["askers"])
    control, inbox = (_socket(handed["doors"][name]) for name in ("control", "inbox"))
    runner.open(
        Control.of(control, paths.control) if control else None,
        Inbox.of(inbox, paths.notify) if inbox else None,
    )
    signal.pthread_sigmask(signal.SIG_UNBLOCK, set(runner.requests.signals))
    runner.say(f"new code (pid {os.getpid()}) goes on with {len(instance.living)} worker(s)")
    follow(runner, Settings.from_json(handed["before"]))
    return runner


def _socket(number: int) -> socket.socket | None:
    if number < 0:
        return None
    os.set_inheritable(number, False)
    return socket.socket(fileno=number)
