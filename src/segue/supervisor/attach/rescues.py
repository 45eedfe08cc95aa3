"""When an attached group is looked after: always, or for a client until it hangs up."""

from __future__ import annotations

from collections.abc import Callable

from segue.engine.attached import AttachedListener
from segue.errors import SegueError
from segue.supervisor.attach.attachment import Attachment
from segue.supervisor.attach.watched import ForeignListeners
from segue.supervisor.control.server import Client


class Rescues:
    """At most one rescue at a time, which it closes; ``moved`` hears that connections migrated."""

    def __init__(self, attachment: Attachment, moved: Callable[[], None]) -> None:
        self.attachment = attachment
        self._moved = moved
        self._watched: ForeignListeners | None = None

    def begin(self, patience: float) -> None:
        """Look after the members from now on; patience in seconds.  Raises KernelError."""
        watched = ForeignListeners(self.attachment, patience, self._moved)
        try:
            count = len(watched.watched())
        except BaseException:
            watched.close()
            raise
        self._watched, self.attachment.rescue = watched, watched.rescue
        self.attachment.loop.say(
            f"looks after {count} listener(s), each stalled when it accepts nothing for"
            f" {1000 * patience:g} ms"
            + ("" if count > 1 else "; with fewer than two there is nobody to take what waits")
        )

    def begin_for(self, client: Client, patience: float) -> None:
        """Rescue what waits behind those that stall, until this client hangs up.

        Raises SegueError, with nothing changed, where that is being done.
        """
        attachment = self.attachment
        if self._watched is not None:
            raise SegueError(f"{attachment.paths.name} rescues already: see segue status")
        attachment.client = client
        try:
            self.begin(patience)
        except BaseException:
            attachment.client = None
            raise
        attachment.loop.watch(client, self._hung_up)

    def _hung_up(self) -> None:
        attachment = self.attachment
        if attachment.client is not None:
            attachment.loop.unwatch(attachment.client)
            attachment.client.close()
            attachment.client = None
        try:
            self.end()
        except SegueError as error:
            attachment.loop.say(f"the shares are not as they were: {error}")
        attachment.loop.say("rescue has ended with who asked for it")

    def step(self) -> None:
        """Relieve those that a look has found stalled.  Raises KernelError or OSError."""
        if self._watched is not None:
            self._watched.step()

    def forget(self, member: AttachedListener) -> None:
        """Forget a listener that has gone."""
        if self._watched is not None:
            self._watched.forget(member)

    def end(self) -> None:
        """Those that stall have their share again.  Raises KernelError."""
        if self._watched is not None:
            self._stop()
            self.attachment.attached.pass_over(())

    def close(self) -> None:
        """Stop looking after anybody, and tell the client that asked for it."""
        self._stop()
        if self.attachment.client is not None:
            self.attachment.client.end(0)

    def _stop(self) -> None:
        if self._watched is not None:
            self._watched.close()
            self._watched = self.attachment.rescue = None
