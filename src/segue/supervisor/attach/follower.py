"""The loop of ``segue attach``: follows one group of somebody else's, and takes orders for it.

Nothing in the kernel depends on this process: when it ends, however, the program goes on with the
shares as they are, and the next one of the same name finds it by its pins and its record.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import replace
from typing import Any

from segue.engine import attach as attaching
from segue.engine.attached import Attached
from segue.engine.duplicate import duplicate, find
from segue.engine.generations import Generations
from segue.engine.membership import MembershipWatch
from segue.engine.nudge import Nudge
from segue.engine.pinning import Pins
from segue.engine.select import EngineChoice, choose
from segue.errors import SegueError, UsageError
from segue.linux import openat
from segue.observe.origin import Rule
from segue.observe.snapshot import Observer, Part
from segue.supervisor import notify
from segue.supervisor.attach import orders as attached_orders
from segue.supervisor.attach.newcomers import Newcomers
from segue.supervisor.attach.settings import AttachSettings, enter
from segue.supervisor.attach.status import parts_of
from segue.supervisor.attach.watched import ForeignListeners
from segue.supervisor.control.doors import KEEP_EVERY, Doors
from segue.supervisor.control.incumbent import renewal
from segue.supervisor.control.log import Log
from segue.supervisor.control.paths import Paths
from segue.supervisor.control.server import Client
from segue.supervisor.control.tracing import Tracing
from segue.supervisor.front import Front
from segue.supervisor.loop import Loop
from segue.supervisor.rescue.rescue import Rescue
from segue.supervisor.settings import Bind


def attend(settings: AttachSettings) -> int:
    """Attach, or go on where an earlier attach of this name stood, and follow until told to end.

    The exit code.  Raises what ``engine.attach`` raises, NotSupported where nothing migrates, and
    SegueError when an instance of this name runs.
    """
    enter(settings.netns)
    paths = Paths.of(settings.instance_name)
    with Observer() as observer:
        follower = _begin(settings, paths, observer)
        try:
            return follower.run()
        finally:
            follower.close()


def detach(settings: AttachSettings) -> bool:
    """Detach a group that nobody attends; whether there was anything of ours to detach.

    Raises SegueError when somebody attends it, and what ``engine.attach.detach`` raises.
    """
    paths = Paths.of(settings.instance_name)
    lock = paths.lock()
    try:
        record = _record(paths)
        enter(settings.netns or str(record.get("netns", "")))
        with Observer() as observer:
            found = attaching.detach(settings.address, observer, Pins(paths.name, settings.bpffs))
        if found:
            paths.remove()
        return found
    finally:
        os.close(lock)


def _record(paths: Paths) -> dict[str, Any]:
    """What the last one of this name wrote down; {} where that cannot be read."""
    found = (paths.read_record() or {}).get("attached")
    if not isinstance(found, dict):
        return {}
    group = found.get("group")
    return found if isinstance(group, dict) else {**found, "group": {}}


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
        record = _record(paths)
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


class Follower:
    """Owns the attached group, the control socket and the tracepoint, until ``close``."""

    def __init__(
        self,
        settings: AttachSettings,
        paths: Paths,
        lock: int,
        observer: Observer,
        attached: Attached,
        pins: Pins,
        choice: EngineChoice,
    ) -> None:
        self.settings, self.paths, self.pins, self.choice = settings, paths, pins, choice
        self.observer, self.attached = observer, attached
        self.ended = False
        self.exit_code = 0
        self.log = Log()
        self.loop = Loop(self.say)
        self.front = Front(0, Bind("", settings.address), attached.steering, observer)
        self.watched: ForeignListeners | None = None
        self._client: Client | None = None  # who wants the rescue, where the settings do not
        self._newcomers = Newcomers(attached, self.front, settings.ready_http)
        self._nudge: Nudge | None = None
        self._said = ""
        self._written: dict[str, Any] = {}
        self.tracing = Tracing(self.loop, settings.program_choice)
        self.doors = Doors(paths, lock, self.loop)
        self._kept = self.loop.now()
        self.membership = MembershipWatch(
            settings.address.port, self.loop.now(), traced=settings.traced
        )
        if self.membership.traced:
            self.loop.watch(self.membership, self._told)
        else:
            self.say(f"listeners are listed at a pace: {self.membership.why}")

    def run(self) -> int:
        """Follow until told to end; the exit code."""
        ends = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self.loop.on_signals(dict.fromkeys(ends, self._signalled))
        if self.settings.rescue_after:
            self.begin_rescue(self.settings.rescue_after)
        self.doors.open(attached_orders.Orders(self).do)
        self.write_down()
        self._summarize()
        notify.tell(READY="1", STATUS=f"follows {self.settings.address}")
        self.loop.run(self)
        return self.exit_code

    def over(self) -> bool:
        """As in Subject."""
        return self.ended

    @property
    def looks(self) -> Rescue | None:
        """As in Subject."""
        return self.watched.rescue if self.watched is not None else None

    def settle(self) -> None:
        """As in Subject: relieve those that a look has found stalled."""
        if self.watched is not None:
            self.loop.attempt(f"rescuing at {self.settings.address}", self.watched.step)

    def deadline(self) -> float:
        """As in Subject."""
        now = self.loop.now()
        due = [
            *(self.membership.deadline(), now + self._newcomers.pace(now)),
            self._kept + KEEP_EVERY,
        ]
        if self._nudge is not None:
            due.append(self._nudge.deadline())
        return min(due)

    def tick(self) -> None:
        """As in Subject: who comes and goes, who accepts, who is slow with a request."""
        self.loop.attempt(f"looking at {self.settings.address}", self._look)
        self.doors.hurry()
        if self.loop.now() >= self._kept + KEEP_EVERY:
            self._kept = self.loop.now()
            self.loop.attempt(f"keeping {self.paths.control}", self._keep)

    def _keep(self) -> None:
        if self.doors.keep():
            self.say(f"{self.paths.control} had been removed: it is there again")
            self._written = {}
            self.write_down()

    def _look(self) -> None:
        now, attached = self.loop.now(), self.attached
        due, thorough = self.membership.due(now)
        before = dict(attached.members)
        begun = time.thread_time()
        if due:
            for text in attached.look(now, thorough=thorough):
                self.say(text)
        gone = [one for cookie, one in before.items() if cookie not in attached.members]
        changed = bool(gone) or len(before) != len(attached.members)
        if due and not (thorough or changed):
            self.membership.took(time.thread_time() - begun)
        if gone:
            self.nudge()
        if self.watched is not None:
            for one in gone:
                self.watched.forget(one)
        if self._nudge is not None and self._nudge.step(now):
            self._nudge.close()
            self._nudge = None
        found, late = self._newcomers.step(now)
        for text in late:
            self.say(text)
        if found or changed or thorough:
            self.write_down()
            self._summarize()

    def _told(self) -> None:
        self.membership.notified(self.loop.now())
        if not self.membership.traced:
            self.loop.unwatch(self.membership)

    def _signalled(self, _: int) -> None:
        try:
            self.end()
        except SegueError as error:
            self.say(f"{self.settings.address} is not left as it was found: {error}")
            self.ended, self.exit_code = True, error.exit_code

    def nudge(self) -> None:
        """Connections migrated: wake those who have them now, where the kernel does not."""
        if self.choice.nudge and self._nudge is None:
            attached = self.attached

            def cookies() -> dict[int, int]:
                return {one.slot: one.cookie for one in attached.members.values()}

            self._nudge = Nudge(
                self.settings.address, attached.steering, self.observer, cookies, self.loop.now()
            )

    # Rescue

    def begin_rescue(self, patience: float) -> None:
        """Look after the members from now on; patience in seconds.  Raises KernelError."""
        watched = ForeignListeners(self, patience)
        try:
            count = len(watched.watched())
        except BaseException:
            watched.close()
            raise
        self.watched = watched
        self.say(
            f"looks after {count} listener(s), each stalled when it accepts nothing for"
            f" {1000 * patience:g} ms"
            + ("" if count > 1 else "; with fewer than two there is nobody to take what waits")
        )

    def _end_rescue(self) -> None:
        """Those that stall have their share again.  Raises KernelError."""
        if self.watched is not None:
            self.watched.close()
            self.watched = None
            self.attached.pass_over(())

    def rescue_for(self, client: Client, patience: float) -> None:
        """Rescue what waits behind those that stall, until this client hangs up.

        Raises SegueError, with nothing changed, where that is being done.
        """
        if self.watched is not None:
            raise SegueError(f"{self.paths.name} rescues already: see segue status")
        self._client = client
        try:
            self.begin_rescue(patience)
        except BaseException:
            self._client = None
            raise
        self.loop.watch(client, self._hung_up)

    def _hung_up(self) -> None:
        if self._client is not None:
            self.loop.unwatch(self._client)
            self._client.close()
            self._client = None
        try:
            self._end_rescue()
        except SegueError as error:
            self.say(f"the shares are not as they were: {error}")
        self.say("rescue has ended with who asked for it")

    # What orders do

    def end(self) -> None:
        """Leave the loop; the program and its shares stay in force, unless they were for now."""
        notify.tell(STOPPING="1")
        if self.settings.passing:
            self.detach()
            return
        self._end_rescue()
        self.say(
            f"no longer followed: the program stays attached with the shares as they are; segue"
            f" attach {self.settings.address} goes on, segue detach {self.settings.address} takes"
            " it off"
        )
        self.ended = True

    def detach(self) -> None:
        """Leave the group as it was found, and the loop.  Raises as ``engine.attach.detach``."""
        attaching.detach(self.settings.address, self.observer, self.pins)
        self.say(
            f"{self.settings.address} is detached: the kernel distributes its connections again"
        )
        self.ended = True
        self.paths.remove()

    def changed(self) -> None:
        """An order changed the shares."""
        self.write_down()
        self._summarize()

    def write_down(self) -> None:
        """Write the record by which the next one goes on, if it says anything new.

        Raises OSError.
        """
        group = self.attached.to_json()
        if self.ended or group == self._written:
            return
        address = str(self.settings.address)
        record: dict[str, Any] = {"address": address, "netns": self.settings.netns, "group": group}
        record["program"] = self.settings.program
        record["passing"] = self.settings.passing
        self.paths.write_record({"attached": record})
        self._written = group

    def _summarize(self) -> None:
        parts = parts_of(self.attached)
        text = "; ".join(
            f"generation {number} has {count} listener(s) and {part:.3g} %"
            for number, (count, part) in parts.items()
        )
        if text != self._said:
            self._said = text
            self.say(text or f"no process listens at {self.settings.address}")
            notify.tell(STATUS=text)

    def borrow(self) -> socket.socket | None:
        """A duplicate of a member's listener, the caller's to close; None when all have gone."""
        for listener in self.observer.snapshot(self.settings.address, Part.OWNERS).listeners:
            if (
                listener.cookie in self.attached.members
                and (taken := duplicate(listener)) is not None
            ):
                return taken
        return None

    def say(self, text: str) -> None:
        """To the log, and to who has asked for a rescue."""
        self.log.say(text)
        if self._client is not None:
            self._client.say(text)

    def close(self) -> None:
        """Close everything that is held here."""
        if self.watched is not None:
            self.watched.close()
        if self._client is not None:
            self._client.end(0)
        self._newcomers.close()
        if self._nudge is not None:
            self._nudge.close()
        self.membership.close()
        self.doors.close()
        self.tracing.close()
        self.attached.steering.close()
        self.loop.close()
