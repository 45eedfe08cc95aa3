"""The loop of ``segue attach``: follows one group of somebody else's, and takes orders for it.

Nothing in the kernel depends on this process: when it ends, however, the program goes on with the
shares as they are, and the next one of the same name finds it by its pins and its record.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Sequence

from segue.engine.attached import Attached
from segue.engine.membership import MembershipWatch
from segue.engine.pinning import Pins
from segue.engine.select import EngineChoice
from segue.errors import SegueError
from segue.observe.snapshot import Observer
from segue.supervisor import notify
from segue.supervisor.attach.account import Account
from segue.supervisor.attach.attachment import Attachment
from segue.supervisor.attach.carrying import KeptElsewhere
from segue.supervisor.attach.newcomers import Newcomers
from segue.supervisor.attach.nudges import Nudges
from segue.supervisor.attach.orders import Orders
from segue.supervisor.attach.rescues import Rescues
from segue.supervisor.attach.settings import AttachSettings
from segue.supervisor.attach.upkeep import OWN_EVENTS, Upkeep
from segue.supervisor.control.doors import KEEP_EVERY, Doors
from segue.supervisor.control.log import Log
from segue.supervisor.control.paths import Paths
from segue.supervisor.control.tracing import Tracing
from segue.supervisor.front import Front
from segue.supervisor.loop import Looks, Loop
from segue.supervisor.settings import Bind


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
        self.loop = loop = Loop(self.say)
        self.attachment = Attachment(
            settings, paths, pins, choice, observer, attached,
            front=Front(0, Bind("", settings.address), attached.steering, observer),
            loop=loop,
            log=Log(),
            tracing=Tracing(loop, settings.program_choice),
            membership=MembershipWatch(
                settings.address.port, loop.now(), traced=settings.traced
            ),
        )  # fmt: skip
        self._nudges = Nudges(self.attachment)
        self._rescues = Rescues(self.attachment, self._nudges.begin)
        self._account = Account(self.attachment)
        self._newcomers = Newcomers(attached, self.attachment.front, settings.ready_question)
        self.orders = Orders(self.attachment, self._account, self._rescues)
        self.doors = Doors(paths, lock, loop)
        self._upkeep = Upkeep(self.attachment)
        self._kept_elsewhere: KeptElsewhere | None = None
        if settings.carry == "http":
            self._kept_elsewhere = KeptElsewhere(self.attachment, settings.idle_grace)
            self.attachment.carrying = self._kept_elsewhere.carrying
        self._kept = loop.now()
        membership = self.attachment.membership
        if membership.traced:
            loop.watch(membership, self._told)
        else:
            self.say(f"listeners are listed at a pace: {membership.why}")

    def run(self) -> int:
        """Follow until told to end; the exit code."""
        settings = self.attachment.settings
        ends = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self.loop.on_signals(dict.fromkeys(ends, self._signalled))
        if settings.rescue_after:
            self._rescues.begin(settings.rescue_after)
        self.doors.open(self.orders.do)
        self._account.changed()
        notify.tell(READY="1", STATUS=f"follows {settings.address}")
        self.loop.run(self)
        return self.attachment.exit_code

    def over(self) -> bool:
        """As in Subject."""
        return self.attachment.over

    @property
    def looks(self) -> Sequence[Looks]:
        """As in Subject."""
        rescue = self.attachment.rescue
        return () if rescue is None else (rescue,)

    def settle(self) -> None:
        """As in Subject: relieve those that a look has found stalled."""
        self.loop.attempt(f"rescuing at {self.attachment.settings.address}", self._rescues.step)

    def deadline(self) -> float:
        """As in Subject."""
        now, kept = self.loop.now(), self._kept_elsewhere
        return min(
            self.attachment.membership.deadline(),
            math.inf if kept is None else kept.deadline(),
            now + self._newcomers.pace(now),
            self._kept + KEEP_EVERY,
            self._nudges.deadline(),
        )

    def tick(self) -> None:
        """As in Subject: who comes and goes, who accepts, who is slow with a request."""
        self.loop.attempt(f"looking at {self.attachment.settings.address}", self._look)
        kept = self._kept_elsewhere
        if kept is not None:
            self.loop.attempt("carrying kept connections", kept.look)
        self.doors.hurry()
        if self.loop.now() >= self._kept + KEEP_EVERY:
            self._kept = self.loop.now()
            self.loop.attempt(f"keeping {self.attachment.paths.control}", self._keep)
            where = self.attachment.settings.address
            self.loop.attempt(f"looking for the program at {where}", self._upkeep.look)
            self._told(OWN_EVENTS)
            if kept is not None:
                self.loop.attempt("following interfaces", kept.follow_interfaces)

    def _keep(self) -> None:
        paths = self.attachment.paths
        what = paths.control if self.doors.keep() else "" if paths.recorded() else paths.record
        if what:
            self._account.again()
            self.say(f"{what} had been removed: it is there again")

    def _look(self) -> None:
        now, attached = self.loop.now(), self.attachment.attached
        due, thorough = self.attachment.membership.due(now)
        before = dict(attached.members)
        begun = time.thread_time()
        if due:
            for text in attached.look(now, thorough=thorough):
                self.say(text)
        gone = [one for cookie, one in before.items() if cookie not in attached.members]
        changed = bool(gone) or len(before) != len(attached.members)
        if due and not (thorough or changed):
            self.attachment.membership.took(time.thread_time() - begun)
        if gone:
            self._nudges.begin()
        for one in gone:
            self._rescues.forget(one)
        self._nudges.step(now)
        found, late = self._newcomers.step(now)
        for text in late:
            self.say(text)
        if found or changed or thorough:
            self._account.changed()

    def _told(self, own: int = 0) -> None:
        membership = self.attachment.membership
        membership.notified(self.loop.now(), own)
        if not membership.traced:
            self.loop.unwatch(membership)

    def _signalled(self, _: int) -> None:
        attachment = self.attachment
        try:
            self.orders.stop()
        except SegueError as error:
            self.say(f"{attachment.settings.address} is not left as it was found: {error}")
            attachment.over, attachment.exit_code = True, error.exit_code

    def say(self, text: str) -> None:
        """To the log, and to the client that asked for a rescue."""
        self.attachment.log.say(text)
        if self.attachment.client is not None:
            self.attachment.client.say(text)

    def close(self) -> None:
        """Close everything that is held here."""
        if self._kept_elsewhere is not None:
            self._kept_elsewhere.close()
        self._rescues.close()
        self._newcomers.close()
        self._nudges.close()
        self.attachment.membership.close()
        self.doors.close()
        self.attachment.tracing.close()
        self.attachment.attached.steering.close()
        self.loop.close()
