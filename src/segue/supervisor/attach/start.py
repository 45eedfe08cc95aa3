"""How ``segue attach`` and ``segue detach`` begin: from a record and pins, or from nothing."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

from segue.address import Address
from segue.engine import attach as attaching
from segue.engine.duplicate import find
from segue.engine.generations import Generations
from segue.engine.pinning import Pins
from segue.engine.select import choose
from segue.errors import UsageError
from segue.linux import openat
from segue.observe.origin import Rule
from segue.observe.snapshot import Observer
from segue.supervisor import notify
from segue.supervisor.attach import account
from segue.supervisor.attach.follower import Follower
from segue.supervisor.attach.settings import AttachSettings, enter
from segue.supervisor.control.incumbent import renewal
from segue.supervisor.control.log import Log
from segue.supervisor.control.paths import Paths
from segue.supervisor.workers.carrying import refuse_impossible

_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PACE = 0.5  # seconds between two looks for a first listener


def attend(settings: AttachSettings) -> int:
    """Attach, or go on where an earlier attach of this name stood, and follow until told to end.

    The exit code.  Raises what ``engine.attach`` raises, NotSupported where nothing migrates or
    can be carried as it was asked for, and SegueError when an instance of this name runs.
    """
    enter(settings.netns)
    refuse_impossible(settings.carry)
    paths = Paths.of(settings.instance_name)
    with Observer() as observer:
        if settings.wait and not _first_listener(settings, paths, observer):
            return 0
        # The name stays that of the address that was asked for.
        served = replace(settings, address=_served(settings, paths, observer), name=paths.name)
        follower = _begin(served, paths, observer)
        try:
            return follower.run()
        finally:
            follower.close()


def _first_listener(settings: AttachSettings, paths: Paths, observer: Observer) -> bool:
    """Wait for one, unless an earlier one of this name was attached; False when told to end."""
    pins = Pins(paths.name, settings.bpffs)
    waits = False
    # Taken and not handled: process 1 of a container would not hear of them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    try:
        while not (pins.there() or observer.snapshot(observer.serving(settings.address)).listeners):
            if not waits:
                waits, said = True, f"waits for a process that listens at {settings.address}"
                Log().say(said)
                notify.tell(READY="1", STATUS=said)
            if signal.sigtimedwait(_ENDS, _PACE) is not None:
                return False
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)
    return True


def _served(settings: AttachSettings, paths: Paths, observer: Observer) -> Address:
    """Where the group is: while no process listens, where the last one of this name had it."""
    asked, there = settings.address, settings.address.in_ipv6
    before = account.read(paths).get("address")
    if there is not None and before == str(there) and not observer.snapshot(asked).listeners:
        return there
    return observer.serving(asked)


def detach(settings: AttachSettings) -> bool:
    """Detach a group that nobody attends; whether there was anything of ours to detach.

    Raises SegueError when somebody attends it, and what ``engine.attach.detach`` raises.
    """
    paths = Paths.of(settings.instance_name)
    lock = paths.lock()
    try:
        record = account.read(paths)
        enter(settings.netns or str(record.get("netns", "")))
        with Observer() as observer:
            address = _served(settings, paths, observer)
            found = attaching.detach(address, observer, Pins(paths.name, settings.bpffs))
        if found:
            paths.remove()
        return found
    finally:
        os.close(lock)


def _begin(settings: AttachSettings, paths: Paths, observer: Observer) -> Follower:
    lock = paths.lock()
    try:
        return _follower(settings, paths, lock, observer)
    except BaseException:
        os.close(lock)
        raise


def _follower(settings: AttachSettings, paths: Paths, lock: int, observer: Observer) -> Follower:
    pins = Pins(paths.name, settings.bpffs)
    rule = Rule.parse(settings.generation_by)
    generations = Generations(settings.together, rule.by_start)
    # There are kernels on which an attached program would do harm (engine/defects.py).
    choice = choose("migrate")
    now = time.monotonic()
    passing = settings.passing
    if pins.there():
        record = account.read(paths)
        before = record.get("address", str(settings.address))
        if before != str(settings.address):
            raise UsageError(
                f"{paths.name} is attached to {before}; detach that first, or choose another --name"
            )
        if record.get("program", settings.program) != settings.program:
            raise UsageError(
                f"{settings.address} is steered by"
                f" {record.get('program') or 'the table of shares'}; segue detach it first to"
                " change that"
            )
        attached = attaching.find_again(
            settings.address, observer, pins, rule, generations, record.get("group", {}), now
        )
        how = "found again"
        # What somebody attached to stay is left so; what another rescue left behind is not.
        passing = passing and record.get("passing") is True
    else:
        if passing and len(find(observer, settings.address)) < 2:
            raise UsageError(
                f"one listener only at {settings.address}: nobody else could take what waits there"
            )
        openat.remove(paths.record)  # of something that is pinned no more
        attached = attaching.attach(
            settings.address, observer, pins, rule, generations, now,
            loading=settings.program_choice.load, replace=settings.replace, allow=settings.allow,
            renewal=renewal,
        )  # fmt: skip
        how = "attached"
    attached.canary, attached.proven = settings.canary, settings.ready == "accept"
    follower = Follower(
        replace(settings, passing=passing), paths, lock, observer, attached, pins, choice
    )
    follower.say(f"{how}: {settings.address}, {len(attached.members)} listener(s)")
    for one in attached.differences:
        follower.say(f"the listeners differ in {one.name}: {one.effect}")
    return follower
