"""Clients that wait: for a generation to serve, for the end of the instance, for new code.

They hear every line that the log gets meanwhile, and at the end how it came out.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from segue.supervisor import notify
from segue.supervisor.control.server import Client
from segue.supervisor.lifecycle.instance import Instance
from segue.supervisor.lifecycle.stages import Phase
from segue.supervisor.workers.callers import Caller
from segue.supervisor.workers.processes import Processes

_RETURNS = 1.0  # seconds that a command has to end once it has its answer
SUPERSEDED = 4  # the exit code of a restart in whose place a later one was asked for


class Awaited(Enum):
    """What a client can wait for."""

    GENERATION = "generation"
    STOP = "stop"
    NEW_CODE = "new code"


@dataclass(frozen=True, slots=True)
class Handed:
    """A waiting client as new code gets it: its descriptor, and what it waits for."""

    descriptor: int
    awaited: Awaited
    generation: int | None = None
    until_drained: bool = True

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "awaited": self.awaited.value}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Handed:
        """The same again.  Raises TypeError, KeyError or ValueError on foreign data."""
        return cls(**{**plain, "awaited": Awaited(plain["awaited"])})


@dataclass(frozen=True, slots=True, eq=False)
class _Wait:
    client: Client
    awaited: Awaited
    generation: int | None = None  # with GENERATION
    until_drained: bool = True  # and the older ones to be gone
    caller: Caller | None = None  # spared until it has its answer


class Waiting:
    """Who waits; each is ended once, here."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.clients: tuple[Client, ...] = ()  # who hears what is said
        self._waits: list[_Wait] = []
        self._returning: dict[Caller, float] = {}  # those that have been answered, and until when

    def for_generation(
        self,
        client: Client,
        generation: int,
        *,
        until_drained: bool,
        caller: Caller | None = None,
    ) -> None:
        """Until this generation serves, and the older ones are gone if so asked."""
        self._add(_Wait(client, Awaited.GENERATION, generation, until_drained, caller))

    @property
    def workers(self) -> frozenset[int]:
        """The workers, by id, whose processes wait for a restart, or have had their answer and not
        yet ended.
        """
        now = self._now()
        self._returning = {
            one: until
            for one, until in self._returning.items()
            if now < until and (one.worker is None or one.alive)
        }
        waiting = [one.caller for one in self._waits if one.caller and one.caller.worker]
        asked = [*(one for one in waiting if one.alive), *self._returning]
        return frozenset(one.worker.id for one in asked if one.worker is not None)

    @property
    def returning(self) -> bool:
        """A worker has had its answer, and may not have read it yet."""
        return any(one.worker is not None for one in self._returning)

    def spared(self) -> dict[int, int]:
        """The processes that are not to be ended now, with their start times: those that wait for a
        restart, or have had their answer, and whoever waits for them.
        """
        now = self._now()
        waiting = [one.caller for one in self._waits if one.caller is not None]
        asked = [*waiting, *(one for one, until in self._returning.items() if now < until)]
        return {pid: born for one in asked if one.alive for pid, born in one.line().items()}

    def for_stop(self, client: Client) -> None:
        """Until the instance has ended."""
        self._add(_Wait(client, Awaited.STOP))

    def for_new_code(self, client: Client) -> None:
        """Until new code goes on, which answers."""
        self._add(_Wait(client, Awaited.NEW_CODE))

    def forget(self, client: Client) -> None:
        """It does not wait any more; it is the caller's to end."""
        self._waits = [one for one in self._waits if one.client is not client]
        self._list()

    def failed(self, generation: int, why: str, code: int = 3) -> None:
        """This generation will not serve: tell systemd, and end those who wait for it."""
        notify.tell(READY="1", STATUS=f"generation {generation} failed: {why}")
        for one in list(self._waits):
            if one.generation == generation:
                self._end(one, code, error=f"generation {generation} is given up: {why}")

    def superseded(self, generation: int) -> None:
        """A later restart has this number now: end those who wait for the one before."""
        for one in list(self._waits):
            if one.generation == generation:
                error = "superseded: another restart was asked for before this one had begun"
                self._end(one, SUPERSEDED, error=error)

    def rolled_back(self, back: int) -> None:
        """The instance went back to this generation: end those who wait for a later one."""
        for one in list(self._waits):
            if one.generation is not None and one.generation > back:
                error = f"generation {one.generation} is given up: it was rolled back"
                self._end(one, 1, error=error)

    def stopped(self, why: str, code: int = 1) -> None:
        """The instance is to stop: no generation will serve."""
        for one in list(self._waits):
            if one.awaited is Awaited.GENERATION:
                self._end(one, code, error=why)
        self._returning.clear()  # a stop has a limit of its own

    def answer(self, instance: Instance, cut: int) -> None:
        """End the waits that are over; ``cut`` counts connections that were cut so far."""
        for one in list(self._waits):
            generation = one.generation
            if generation is None:
                continue
            serving = instance.working >= generation
            canary = instance.phase is Phase.CANARY and instance.newcomer == generation
            older = any(other.generation < generation for other in instance.living)
            if canary or (serving and not (one.until_drained and older)):
                percent = instance.renewal.percent if canary else 100.0
                runs = str(instance.starts.get(generation, ""))
                self._end(one, 0, generation=generation, cut=cut, percent=percent, runs=runs)

    def renewed(self) -> None:
        """New code goes on."""
        for one in list(self._waits):
            if one.awaited is Awaited.NEW_CODE:
                self._end(one, 0)

    def not_renewed(self, why: str) -> None:
        """The old code goes on."""
        for one in list(self._waits):
            if one.awaited is Awaited.NEW_CODE:
                self._end(one, 1, error=why)

    def handed(self) -> list[Handed]:
        """Who waits, for new code."""
        return [
            Handed(one.client.fileno(), one.awaited, one.generation, one.until_drained)
            for one in self._waits
        ]

    def adopt(self, handed: Iterable[Handed], processes: Processes) -> None:
        """Go on with the clients of a predecessor in this process."""
        for one in handed:
            os.set_inheritable(one.descriptor, False)
            connection = socket.socket(fileno=one.descriptor)
            connection.setblocking(False)
            client, caller = Client(connection), None
            if one.awaited is Awaited.GENERATION:
                caller = Caller.of(client.pid, processes)
            self._add(_Wait(client, one.awaited, one.generation, one.until_drained, caller))

    def close(self) -> None:
        """The instance has ended: end every wait."""
        for one in list(self._waits):
            if one.awaited is Awaited.STOP:
                self._end(one, 0)
            else:
                self._end(one, 1, error="the supervisor ended")

    def _add(self, one: _Wait) -> None:
        self._waits.append(one)
        self._list()

    def _list(self) -> None:
        self.clients = tuple(one.client for one in self._waits)

    def _end(self, one: _Wait, code: int, **more: Any) -> None:
        self._waits.remove(one)
        self._list()
        if one.caller is not None:
            self._returning[one.caller] = self._now() + _RETURNS
        one.client.end(code, **more)
