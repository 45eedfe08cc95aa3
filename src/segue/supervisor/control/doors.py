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
from segue.supervisor.control.server import Control
from segue.supervisor.loop import Loop, Rank

KEEP_EVERY = 1.0  # seconds between two looks whether the names are there


class Doors:
    """Owns the lock, the clients, and the inbox where ``notified`` reads it."""

    def __init__(
        self,
        paths: Paths,
        lock: int,
        clients: Clients,
        loop: Loop,
        notified: Callable[[], None] | None = None,
    ) -> None:
        self.lock: int | None = lock
        self.clients = clients
        self.inbox: notify.Inbox | None = None
        self._paths, self._loop, self._notified = paths, loop, notified

    def open(self, control: Control | None = None, inbox: notify.Inbox | None = None) -> None:
        """Be there for clients and for notifications, by sockets of a predecessor if given.

        Raises KernelError.
        """
        self.clients.open(control or Control(self._paths.control))
        if self._notified is not None:
            self.inbox = inbox or notify.Inbox(self._paths.notify)
            self._loop.watch(self.inbox, self._notified, Rank.NOTIFIED)

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
        self.open()
        return True

    def _shut(self) -> None:
        """Close both sockets, as far as they are open; clients that are connected are heard."""
        self.clients.shut()
        if self.inbox is not None:
            self._loop.unwatch(self.inbox)
            self.inbox.close()
            self.inbox = None

    def close(self) -> None:
        """Hang up on everybody, remove the sockets, and let the name go."""
        self._shut()
        self.clients.close()
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None
