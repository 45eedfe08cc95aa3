"""Listeners to which connections were migrated, woken where the kernel does not do it."""

from __future__ import annotations

import math

from segue.engine.nudge import Nudge
from segue.supervisor.attach.attachment import Attachment


class Nudges:
    """At most one nudge at a time, which it closes: each is of the whole group."""

    def __init__(self, attachment: Attachment) -> None:
        self.attachment = attachment
        self._nudge: Nudge | None = None

    def begin(self) -> None:
        """Connections migrated: wake those who have them now, where the kernel does not."""
        one = self.attachment
        if not one.choice.nudge:
            return
        if self._nudge is not None:
            self._nudge.again(one.loop.now())
            return
        self._nudge = Nudge(
            one.settings.address, one.attached.steering, one.observer, self._cookies,
            one.loop.now(),
        )  # fmt: skip

    def _cookies(self) -> dict[int, int]:
        return {one.slot: one.cookie for one in self.attachment.attached.members.values()}

    def deadline(self) -> float:
        """When to call ``step`` at the latest; math.inf for never."""
        return math.inf if self._nudge is None else self._nudge.deadline()

    def step(self, now: float) -> None:
        """Go on, if there is one.  Raises SegueError or OSError."""
        if self._nudge is not None and self._nudge.step(now):
            self.close()

    def close(self) -> None:
        """Hang up on everybody."""
        if self._nudge is not None:
            self._nudge.close()
            self._nudge = None
