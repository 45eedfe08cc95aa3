"""How an instance is found and reached: its lock, control socket and notification socket.

All of them are files in a directory, and a cleaner of /tmp or an operator may remove them.
``keep`` makes them again, for ``segue run`` and ``segue attach``.  Otherwise a second supervisor of
the same name could start beside the first.
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

KEEP_EVERY = 1.0  # seconds between two checks that the files exist


class Doors:
    """Owns the lock, the clients, and the inbox for notifications of workers, if there is one."""

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
        """Open the sockets, or use those of a predecessor.

        ``do`` carries out the requests of clients, and ``notified`` reads notifications.  Raises
        KernelError.
        """
        self.clients, self._notified = Clients(self._loop, do), notified
        self._open(control, inbox)

    def _open(self, control: Control | None = None, inbox: notify.Inbox | None = None) -> None:
        if self.clients is not None:
            self.clients.open(control or Control(self._paths.control))
        if self._notified is not None:
            opened = inbox or notify.Inbox(self._paths.notify)
            try:
                self._loop.watch(opened, self._notified, Rank.NOTIFIED)
            except OSError:
                opened.close()
                raise
            self.inbox = opened

    def hurry(self) -> None:
        """End the clients that take too long to send their request."""
        if self.clients is not None:
            self.clients.hurry()

    def keep(self) -> bool:
        """Make removed files again.  True if there were any.

        Raises SegueError or OSError if that fails.  Serving continues, and it is tried again.
        """
        if self._all_open() and self._paths.whole(notify=self._notified is not None):
            return False
        self._shut()
        if self.lock is not None:
            lock, self.lock = self.lock, None
            os.close(lock)
        self.lock = self._paths.lock()
        self._open()
        return True

    def _all_open(self) -> bool:
        """Nothing is missing since an earlier attempt that failed half way."""
        asked = self.clients is None or self.clients.control is not None
        return asked and self.lock is not None and bool(self.inbox or not self._notified)

    def _shut(self) -> None:
        """Close both sockets, if they are open.  Connected clients are still served."""
        if self.clients is not None:
            self.clients.shut()
        if self.inbox is not None:
            self._loop.unwatch(self.inbox)
            self.inbox.close()
            self.inbox = None

    def close(self) -> None:
        """Close every client, remove the sockets, and release the name."""
        self._shut()
        if self.clients is not None:
            self.clients.close()
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None
