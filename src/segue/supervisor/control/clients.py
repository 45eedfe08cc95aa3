"""Clients of a control socket, from their connection until their request is whole."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

from segue.errors import SegueError
from segue.supervisor.control.requests import Request, parse
from segue.supervisor.control.server import Client, Control
from segue.supervisor.loop import Loop

_MOST_CLIENTS = 32  # clients whose request is not whole yet, and their time for it in seconds
_CLIENT_SECONDS = 5.0


class Clients:
    """Watches the control socket and its clients in the loop; owns the clients.

    ``do`` carries out a request and ends the client.  If it raises a SegueError or OSError, that is
    the client's answer.  Any other exception is an answer too, and is logged: no request may end
    the supervisor.
    """

    def __init__(
        self,
        loop: Loop,
        do: Callable[[Client, Request], None],
    ) -> None:
        self.control: Control | None = None
        self._loop, self._do = loop, do
        self._clients: dict[Client, float] = {}  # the time until which we wait for the request

    def open(self, control: Control) -> None:
        """Serve the clients of this socket, which is then ours to close."""
        try:
            self._loop.watch(control, self._asked)
        except OSError:
            control.close()
            raise
        self.control = control

    def shut(self) -> None:
        """Close the control socket, if it is open.  Connected clients are still served."""
        if self.control is not None:
            self._loop.unwatch(self.control)
            self.control.close()
            self.control = None

    def hurry(self) -> None:
        """End the clients that take too long to send their request."""
        now = self._loop.now()
        for client in [one for one, until in self._clients.items() if now >= until]:
            self._forget(client)
            client.end(2, error=f"no whole request came within {_CLIENT_SECONDS:g} s")

    def turn_away(self, why: str) -> None:
        """End every client whose request is not whole."""
        for client in list(self._clients):
            self._forget(client)
            client.end(1, error=why)

    def close(self) -> None:
        """Close every client and the control socket."""
        for client in list(self._clients):
            client.close()
        self.shut()

    def _asked(self) -> None:
        client = self.control.accept() if self.control else None
        if client is None:
            return
        if len(self._clients) >= _MOST_CLIENTS:
            # The oldest client had the most time.  If new clients were refused instead, a crowd of
            # silent clients would keep all others from the supervisor.
            idle = next(iter(self._clients))
            self._forget(idle)
            idle.end(1, error=f"{_MOST_CLIENTS} clients came after this one, which sent no request")
        try:
            self._loop.watch(client, lambda: self._requested(client))
        except OSError as error:
            client.end(1, error=f"there is no room for another client: {error.strerror}")
            return
        self._clients[client] = self._loop.now() + _CLIENT_SECONDS

    def _requested(self, client: Client) -> None:
        try:
            request = client.request()
            if request is None:
                return
            self._forget(client)
            if client.gone:
                # It may have waited until it had enough, while we tried new code.
                client.close()
                return
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
