"""The traces of groups: at most one client for each group, until it disconnects."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from segue.engine import policies
from segue.engine.programs import ProgramChoice
from segue.engine.steering import Exchangeable, Steering
from segue.engine.trace import Trace
from segue.errors import NotSupported, SegueError
from segue.linux import scm_rights
from segue.policy.compile import compile_policy
from segue.policy.library import shares
from segue.supervisor.control.server import Client
from segue.supervisor.loop import Loop

Borrow = Callable[[], socket.socket | None]


@dataclass(slots=True)
class Tracing:
    """The traces of one instance.  The loop reports when a client is gone."""

    loop: Loop
    program_choice: ProgramChoice
    _running: dict[Client, Callable[[], None]] = field(default_factory=dict)
    _groups: dict[int, Client] = field(default_factory=dict)

    def begin(self, client: Client, number: int, steering: Steering, borrow: Borrow) -> None:
        """Trace this group for this client, and send it the descriptors to read.

        ``borrow`` returns one of the group's listeners, which we close.  Raises SegueError if
        another client traces the group, NotSupported, KernelError.
        """
        if number in self._groups:
            raise SegueError(
                "another client traces this group, and each record can be read only once"
            )
        if not isinstance(steering, Exchangeable) or self.program_choice.object:
            has = (
                str(self.program_choice)
                if self.program_choice.object
                else f"the engine {steering.name}"
            )
            raise NotSupported("tracing", "the engine migrate with a policy in Python", has)
        if self.program_choice.policy:
            compiled = policies.compiled(self.program_choice.policy, traced=True)
        else:
            compiled = compile_policy(shares, traced=True)
        listener = borrow()
        if listener is None:
            raise SegueError("no process listens here at the moment: there is nothing to trace")
        with listener:
            trace = Trace(steering, compiled, listener)

        def end() -> None:
            self._groups.pop(number, None)
            with suppress(SegueError):
                last = borrow()
                try:
                    trace.end(last)
                finally:
                    if last is not None:
                        last.close()

        self._groups[number] = client
        self._running[client] = end
        self.loop.watch(client, lambda: self.end(client))
        # A client that went away, or whose buffer is full, is told by the loop or by this.
        try:
            answer = json.dumps({"trace": number}).encode() + b"\n"
            scm_rights.send(client.connection, answer, trace.descriptors)
        except BaseException:
            self.end(client)
            raise

    def traces(self, number: int) -> bool:
        """True if a client traces this group."""
        return number in self._groups

    def tell(self, number: int, record: dict[str, Any]) -> None:
        """Something about a connection of this group that its program does not decide."""
        client = self._groups.get(number)
        if client is not None:
            client.tell(record)

    def end(self, client: Client) -> None:
        """End the trace of this client, because it disconnected or sent more data."""
        end = self._running.pop(client, None)
        if end is not None:
            self.loop.unwatch(client)
            client.close()
            end()

    def close(self) -> None:
        """End all traces."""
        for client in list(self._running):
            self.end(client)
