"""``segue reexec``: the running supervisor tries new code, and becomes it.

New code reads the settings and the whole handover before anything happens (``--check``).  When it
cannot, or when exec(2) is refused, the old code goes on.  The new code says that it goes on
(``resume``).
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence

from segue.engine.steering import descriptors_of, moves_at_close
from segue.errors import KernelError, SegueError, UsageError
from segue.supervisor.control.paths import Paths
from segue.supervisor.run.handover import VARIABLE, HandedFront, HandedWorker, Handover
from segue.supervisor.run.record import Record
from segue.supervisor.run.service import Service, Upgrade
from segue.supervisor.settings import Settings
from segue.supervisor.source import Source, go_where_it_leads, own_program, where_it_leads

# The supervisor does nothing else meanwhile: the new code is tried with what is true now.
_CHECK_SECONDS = 20.0
_MOST_WORDS = 1 << 20  # bytes: the sentence comes first, and the verifier's words after it


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


def prepare(service: Service) -> Upgrade:
    """Check that the new code starts with the settings as they are read now.

    Raises SegueError, with nothing changed, if not, and when a setting has changed that only a
    new start can change.
    """
    settings, source = service.reread(service.source.start)
    if service.source.file and not source.file and where_it_leads(source.start) is None:
        raise UsageError(f"{service.source.file} is gone, and {source.start} with it: put it back")
    refuse_others(service.settings, settings, service.paths)
    for name in ("name", "engine", "output"):
        if getattr(settings, name) != getattr(service.settings, name):
            raise UsageError(f"--{name} cannot change while the instance runs: stop it and start")
    moves = all(moves_at_close(front.steering) for front in service.fronts)
    needs = str(settings.program_choice) if settings.program_choice else settings.counting
    if needs and not moves:
        raise UsageError(
            f"{needs} needs the engine migrate, and this instance runs {service.choice.engine}:"
            " stop it and start"
        )
    argv = (*own_program(), *sys.argv[1:])
    _try(argv, gather(service, settings, source), source.start)
    return Upgrade(argv, settings, source)


def _try(argv: tuple[str, ...], handover: Handover, start: str) -> None:
    """Have the new code read what it would be handed.  Raises SegueError when it cannot."""
    verb = len(own_program())
    check = [*argv[: verb + 1], "--check", *argv[verb + 1 :]]
    memory = handover.write()
    try:
        code, words = _answer(check, memory, start)
    except subprocess.TimeoutExpired:
        raise SegueError(f"the new code did not load within {_CHECK_SECONDS:g} s") from None
    except OSError as error:
        doing = "trying the new code, while the old one goes on"
        raise KernelError("fork, execve", error.errno or 0, doing) from error
    finally:
        os.close(memory)
    if code:
        lines = words.strip().splitlines() or ["no reason given"]
        # The verifier's words may follow the sentence; a traceback has none, and ends with it.
        last = next((line for line in lines if line.startswith("segue: ")), lines[-1])
        raise SegueError(f"the new code does not start, the old one goes on: {last}")


def _answer(argv: Sequence[str], memory: int, start: str = "") -> tuple[int, str]:
    """The exit code of new code that gets this memory, and the first of what it says of it.

    It runs where ``start`` leads now.

    It may say anything, and at any length.  Raises TimeoutExpired, OSError.
    """
    process = subprocess.Popen(
        argv,
        cwd=where_it_leads(start),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, VARIABLE: str(memory)},
        pass_fds=(memory,),
    )
    end, kept = time.monotonic() + _CHECK_SECONDS, b""
    with process:
        assert process.stderr is not None
        said = process.stderr.fileno()
        ready = select.poll()
        ready.register(said, select.POLLIN)
        try:
            while ready.poll(1000 * max(0, end - time.monotonic())):
                read = os.read(said, _MOST_WORDS)
                if not read:
                    break
                kept += read[: _MOST_WORDS - len(kept)]
                if time.monotonic() > end:
                    break
            code = process.wait(max(0, end - time.monotonic()))
        finally:
            process.kill()  # nothing if it has ended
    return code, kept.decode(errors="replace")


def gather(
    service: Service, settings: Settings, source: Source, begun: dict[int, str] | None = None
) -> Handover:
    """What a service hands over now; ``begun`` has lines that were read in part, by pipe."""
    choice, doors, inbox = service.choice, service.doors, service.doors.inbox
    now = service.record()
    control = doors.clients.control if doors.clients else None
    return Handover(
        record=Record(settings, now.instance, now.engine, now.orders, now.cgroup),
        before=service.settings,
        nudge=choice.nudge,
        reasons=tuple(choice.reasons),
        files=service.processes.files,
        clients=tuple(service.waiting.handed()),
        moved=service.moved,
        carried=service.carrying.total.numbers,
        cut=service.cut,
        exit_code=service.exit_code,
        lock=doors.lock,
        control=control.fileno() if control else None,
        inbox=inbox.fileno() if inbox else None,
        fronts=tuple(
            HandedFront(
                {slot: one.fileno() for slot, one in front.sockets.items()},
                descriptors_of(front.steering),
                tuple(front.opened),
                dict(front.ours),
                front.standby is not None,
                front.stored,
            )
            for front in service.fronts
        ),
        workers={
            one.worker.id: HandedWorker(
                one.child.pidfd,
                one.pipe.reader if one.pipe else None,
                (begun or {}).get(one.pipe.reader, "") if one.pipe else "",
            )
            for one in service.processes
        },
        unclaimed=tuple(service.unclaimed),
        leftovers=service.leftovers.to_json(),
        source=source,
    )


def become(service: Service, upgrade: Upgrade) -> None:
    """Become the new code: same process, same descriptors.

    Returns when the kernel refuses, with everything as it was, and said.
    """
    service.write_down()  # should the new code fail all the same, it takes over by this
    kept: list[int] = []
    try:
        handover = gather(service, upgrade.settings, upgrade.source, service.flow.hand_over())
        kept.append(handover.write())
        os.environ[VARIABLE] = str(kept[0])
        kept += handover.descriptors()
        for descriptor in kept:
            os.set_inheritable(descriptor, True)
        if service.doors.clients is not None:
            service.doors.clients.turn_away("the supervisor is just being replaced: ask again")
        service.loop.hold_signals()
        go_where_it_leads(upgrade.source.start)
        os.execv(upgrade.argv[0], upgrade.argv)
    except OSError as error:
        os.environ.pop(VARIABLE, None)
        for descriptor in kept:
            os.set_inheritable(descriptor, False)
        if kept:
            os.close(kept[0])
        service.upgrade = None
        service.loop.hear_signals()
        why = f"the new code could not be started, the old one goes on: {error}"
        service.say(why, "error")
        service.waiting.not_renewed(why)
