"""Clients of a control socket, from their connecting until their request is whole."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

from segue.errors import SegueError
from segue.supervisor.control.requests import Request, parse
from segue.supervisor.control.server import Client, Control
from segue.supervisor.loop import Loop

_MOST_CLIENTS = 32  # clients whose request is not whole yet, and how long they may take over it
_CLIENT_SECONDS = 5.0


class Clients:
    """Has the loop watch whoever is to be heard; owns the clients.

    ``do`` carries out a request and ends the client; the SegueError or OSError that it raises is
    the client's answer.  Any other exception is one too, and the log is told: no request is worth
    the supervisor.
    """

    def __init__(
        self,
        loop: Loop,
        do: Callable[[Client, Request], None],
    ) -> None:
        self.control: Control | None = None
        self._loop, self._do = loop, do
        self._clients: dict[Client, float] = {}  # until when their request is awaited

    def open(self, control: Control) -> None:
        """Be there for clients of this socket, which becomes ours to close."""
        self.control = control
        self._loop.watch(control, self._asked)

    def shut(self) -> None:
        """Close the control socket, if it is open; clients that are connected are heard."""
        if self.control is not None:
            self._loop.unwatch(self.control)
            self.control.close()
            self.control = None

    def hurry(self) -> None:
        """Turn away those who take too long over their request."""
        now = self._loop.now()
        for client in [one for one, until in self._clients.items() if now >= until]:
            self._forget(client)
            client.end(2, error=f"no whole request came within {_CLIENT_SECONDS:g} s")

    def close(self) -> None:
        """Hang up on everybody, and close the control socket."""
        for client in list(self._clients):
            client.close()
        self.shut()

    def _asked(self) -> None:
        client = self.control.accept() if self.control else None
        if client is None:
            return
        if len(self._clients) >= _MOST_CLIENTS:
            # Whoever came first had the most time; to refuse the newcomer instead would make the
            # supervisor deaf to everybody for as long as a crowd says nothing.
            idle = next(iter(self._clients))
            self._forget(idle)
            idle.end(1, error=f"{_MOST_CLIENTS} clients came after this one, which asked nothing")
        self._clients[client] = self._loop.now() + _CLIENT_SECONDS
        self._loop.watch(client, lambda: self._requested(client))

    def _requested(self, client: Client) -> None:
        try:
            request = client.request()
            if request is None:
                return
            self._forget(client)
            self._do(client, parse(request))
        except (SegueError, OSError) as error:
            self._forget(client)
            client.end(getattr(error, "exit_code", 1), error=str(error))
        except Exception as error:  # noqa: BLE001  whatever it is, others are to be served
            self._forget(client)
            where = traceback.extract_tb(error.__traceback__)[-1]
            told = (
                f"a request could not be carried out, which is a bug in segue:"
                f" {type(error).__name__}: {error} ({os.path.basename(where.filename)}, line"
                f" {where.lineno})"
            )
            self._loop.say(told)
            client.end(1, error=told)

    def _forget(self, client: Client) -> None:
        if self._clients.pop(client, None) is not None:
            self._loop.unwatch(client)
