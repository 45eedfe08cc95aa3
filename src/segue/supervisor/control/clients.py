"""Clients of a control socket, from their connecting until their request is whole."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

from segue.errors import SegueError
from segue.supervisor.control.requests import Request, parse
from segue.supervisor.control.server import Asker, Control
from segue.supervisor.loop import Loop

_MOST_ASKERS = 32  # clients whose request is not whole yet, and how long they may take over it
_ASKER_SECONDS = 5.0


class Reception:
    """Has the loop watch whoever is to be heard; owns the clients.

    ``do`` carries out a request and ends the client; the SegueError or OSError that it raises is
    the client's answer.  Any other exception is one too, and the log is told: no request is worth
    the supervisor.
    """

    def __init__(
        self,
        loop: Loop,
        do: Callable[[Asker, Request], None],
    ) -> None:
        self.control: Control | None = None
        self._loop, self._do = loop, do
        self._askers: dict[Asker, float] = {}  # until when their request is awaited

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
        for asker in [one for one, until in self._askers.items() if now >= until]:
            self._forget(asker)
            asker.end(2, error=f"no whole request came within {_ASKER_SECONDS:g} s")

    def close(self) -> None:
        """Hang up on everybody, and close the control socket."""
        for asker in list(self._askers):
            asker.close()
        self.shut()

    def _asked(self) -> None:
        asker = self.control.accept() if self.control else None
        if asker is None:
            return
        if len(self._askers) >= _MOST_ASKERS:
            # Whoever came first had the most time; to refuse the newcomer instead would make the
            # supervisor deaf to everybody for as long as a crowd says nothing.
            idle = next(iter(self._askers))
            self._forget(idle)
            idle.end(1, error=f"{_MOST_ASKERS} clients came after this one, which asked nothing")
        self._askers[asker] = self._loop.now() + _ASKER_SECONDS
        self._loop.watch(asker, lambda: self._requested(asker))

    def _requested(self, asker: Asker) -> None:
        try:
            request = asker.request()
            if request is None:
                return
            self._forget(asker)
            self._do(asker, parse(request))
        except (SegueError, OSError) as error:
            self._forget(asker)
            asker.end(getattr(error, "exit_code", 1), error=str(error))
        except Exception as error:  # noqa: BLE001  whatever it is, others are to be served
            self._forget(asker)
            where = traceback.extract_tb(error.__traceback__)[-1]
            told = (
                f"a request could not be carried out, which is a bug in segue:"
                f" {type(error).__name__}: {error} ({os.path.basename(where.filename)}, line"
                f" {where.lineno})"
            )
            self._loop.say(told)
            asker.end(1, error=told)

    def _forget(self, asker: Asker) -> None:
        if self._askers.pop(asker, None) is not None:
            self._loop.unwatch(asker)
