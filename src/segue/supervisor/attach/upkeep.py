"""Whether our program still decides for the group: looked at once a second, as nobody says so.

Linux lets whoever has a listener take the group's program off, or attach another one over it.  A
server may do so each time it reloads (nginx with its own program), long after we attached.
"""

from __future__ import annotations

from segue.supervisor.attach.attachment import Attachment

# A look opens a listener of our own for an instant, and closes it.
OWN_EVENTS = 2


class Upkeep:
    """The looks at one attached group, and whether the last one has been told of."""

    def __init__(self, attachment: Attachment) -> None:
        self.attachment = attachment
        self._said = False

    def look(self) -> None:
        """Once.  Raises SegueError or OSError if that cannot be told."""
        one = self.attachment
        member = one.attached.borrow() if one.attached.weights else None
        if member is None:
            return
        with member:
            if one.tracing.traces(0):
                # Whoever watches would be told of our own connection every second.
                one.attached.steering.attach(member)
                return
            if not one.front.look_after(member):
                self._said = False
                return
        if not self._said:
            self._said = True
            one.loop.say(
                f"the program that steers {one.settings.address} was gone or exchanged, most likely"
                f" by its server: it is back (time {one.front.restored}; segue status counts on)"
            )
