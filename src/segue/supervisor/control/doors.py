"""By what an instance is found and reached: its lock, its control socket, workers' notifications.

All of them are names in a directory, and somebody may remove names: a cleaner of /tmp, an operator.
``keep`` makes them again, for ``segue run`` and ``segue attach`` alike; without that a second
supervisor of the same name could start beside the first.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from segue.supervisor import notify
from segue.supervisor.control.clients import Clients
from segue.supervisor.control.paths import Paths
from segue.supervisor.control.requests import Request
from segue.supervisor.control.server import Client, Control
from segue.supervisor.loop import Loop, Rank

KEEP_EVERY = 1.0  # seconds between two looks whether the names are there


class Doors:
    """Owns the lock, the clients, and where there are workers the inbox of their notifications."""

    def __init__(self, paths: Paths, lock: int, loop: Loop) -> None:
        self.lock: int | None = lock
        self.clients: Clients | None = None
        self.inbox: notify.Inbox | None = None
        self._paths, self._loop = paths, loop
        self._notified: Callable[[], None] | None = None

    def open(
        self,
        do: Callable[[Client, Request], None],
        notified: Callable[[], None] | None = None,
        control: Control | None = None,
        inbox: notify.Inbox | None = None,
    ) -> None:
        """Be there for clients, whose requests ``do`` carries out, and for notifications, which
        ``notified`` reads, by sockets of a predecessor if given.  Raises KernelError.
        """
        self.clients, self._notified = Clients(self._loop, do), notified
        self._open(control, inbox)

    def _open(self, control: Control | None = None, inbox: notify.Inbox | None = None) -> None:
        if self.clients is not None:
            self.clients.open(control or Control(self._paths.control))
        if self._notified is not None:
            self.inbox = inbox or notify.Inbox(self._paths.notify)
            self._loop.watch(self.inbox, self._notified, Rank.NOTIFIED)

    def hurry(self) -> None:
        """Turn away clients that take too long over their request."""
        if self.clients is not None:
            self.clients.hurry()

    def keep(self) -> bool:
        """Make anew what somebody removed; whether there was anything.

        Raises SegueError or OSError when it cannot be; serving goes on, and it is tried again.
        """
        if self.lock is not None and self._paths.whole():
            return False
        self._shut()
        if self.lock is not None:
            lock, self.lock = self.lock, None
            os.close(lock)
        self.lock = self._paths.lock()
        self._open()
        return True

    def _shut(self) -> None:
        """Close both sockets, as far as they are open; clients that are connected are heard."""
        if self.clients is not None:
            self.clients.shut()
        if self.inbox is not None:
            self._loop.unwatch(self.inbox)
            self.inbox.close()
            self.inbox = None

    def close(self) -> None:
        """Hang up on everybody, remove the sockets, and let the name go."""
        self._shut()
        if self.clients is not None:
            self.clients.close()
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None
