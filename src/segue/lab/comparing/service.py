"""The servers of a comparison: workers that leave, workers that come, and a way between them.

Nothing here knows whether it runs on Linux or on the model: ``System`` does what either can.
A worker accepts one connection after the other, which takes it some time, and answers every request
at once.  Once its listener is gone it answers what is owed, and lets go of the rest, as servers do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from segue.lab.comparing.ledger import Served
from segue.lab.comparing.settings import Settings
from segue.lab.ways.leaving import Leaving, Steps, Way


class System(Protocol):
    """Linux or the model.  A connection is named by its client's port, a listener by a number."""

    def now(self) -> float:
        """Seconds since any instant."""

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Call it in so many seconds."""

    def listen(self) -> int:
        """A new listener of the group."""

    def steer(self, listeners: Collection[int]) -> None:
        """SYNs go to these alone; with Steering.HASH nothing happens."""

    def watch(self, listener: int, ready: Callable[[], None] | None) -> None:
        """Call it whenever a connection waits there; None: no more."""

    def accept(self, listener: int) -> int | None:
        """The oldest that waits, None when none does."""

    def answer(self, connection: int) -> bool:
        """Send an answer; False when the connection has ended meanwhile."""

    def end(self, connection: int) -> None:
        """Close an accepted connection."""

    def pass_on(self, connection: int) -> None:
        """To a successor, who takes it soon (``Service.adopted``)."""

    def carry(self, connections: Collection[int], listeners: Collection[int]) -> set[int]:
        """Those that went to these listeners, where they are accepted again."""

    def half_open(self) -> frozenset[int]:
        """The half-open requests of the port, by their clients' ports."""

    def queued(self, listener: int) -> int:
        """Connections that wait."""

    def selected(self, listener: int) -> int:
        """SYNs that the policy has sent there."""

    def set_backlog(self, listener: int, backlog: int) -> None:
        """Call listen(2) again."""

    def close(self, listener: int) -> None:
        """Close a listener."""


class _Worker:
    """One; ``listener`` is None once it has let go of it."""

    def __init__(self, service: Service, listener: int, *, old: bool) -> None:
        self._service, self.old = service, old
        self.listener: int | None = listener
        self.accepted = 0
        self._free_at = 0.0
        service.system.watch(listener, self._ready)

    def _ready(self) -> None:
        """It is idle, and a connection waits."""
        self._free_at = self._service.system.now()
        self._accept()

    def _accept(self) -> None:
        """Those for which there was time by now: a timer that is late takes no time from it."""
        system = self._service.system
        while self.listener is not None:
            left = self._free_at - system.now()
            if left > 0:
                system.watch(self.listener, None)
                system.later(left, self._accept)
                return
            connection = system.accept(self.listener)
            if connection is None:
                system.watch(self.listener, self._ready)
                return
            self.take(connection)
            self._free_at += self._service.settings.accept_s

    def take(self, connection: int) -> None:
        """It has accepted this one, and serves it."""
        self.accepted += 1
        self._service.took(connection, old=self.old)

    def let_go(self) -> int | None:
        """Of its listener, which it does not accept from any more."""
        listener, self.listener = self.listener, None
        if listener is not None:
            self._service.system.watch(listener, None)
        return listener


@dataclass(slots=True)
class _Connection:
    """An accepted one."""

    old: bool
    answered: int = 0


@dataclass(slots=True)
class _Seen:
    """For the report."""

    accepted: set[int] = field(default_factory=set)
    half_open: set[int] = field(default_factory=set)
    restarted: float | None = None
    gone: float | None = None
    old: float | None = None


class Service(Leaving):
    """Both generations; ``restart`` lets the first leave by the way, or by none."""

    def __init__(self, settings: Settings, way: Way | None) -> None:
        """``begin`` is to be called before the first client comes."""
        self.settings = settings
        self._way = way
        self._connections: dict[int, _Connection] = {}
        self._seen = _Seen()
        self._left = False  # those that leave have done what the way asks for
        self._steps: Steps = iter(())
        self._old: list[_Worker] = []
        self._new: list[_Worker] = []

    def begin(self, system: System) -> None:
        """Open the listeners of the first generation."""
        self.system = system
        self._old = [_Worker(self, self.system.listen(), old=True) for _ in self._places]
        self.system.steer(_listeners(self._old))

    def restart(self) -> None:
        """The successors listen, and the way begins."""
        self._seen.restarted = self.now
        if self._way is None:
            return
        if not self._way.inherits:
            self._new = [_Worker(self, self.system.listen(), old=False) for _ in self._places]
        self._steps = self._way.steps(self)
        self._step()

    def stop(self) -> None:
        """Accept nothing more: the listeners are about to be closed, and timers may be due."""
        for worker in (*self._old, *self._new):
            worker.let_go()

    def served(self) -> Served:
        """What was seen so far."""
        seen, began = self._seen, self._seen.restarted

        def since(when: float | None) -> float | None:
            return None if when is None or began is None else max(0.0, when - began)

        return Served(
            frozenset(seen.accepted),
            frozenset(seen.half_open),
            since(seen.gone),
            since(seen.old) if self._way is not None else None,
        )

    # What the system tells.

    def asked(self, connection: int) -> None:
        """A whole request has come."""
        there = self._connections.get(connection)
        if there is None:
            return
        if self.system.answer(connection):
            there.answered += 1
            if there.old:
                self._seen.old = self.now
            if there.old and self._left:
                self._end(connection)

    def ended(self, connection: int) -> None:
        """By the client; the system has forgotten it."""
        self._connections.pop(connection, None)

    def adopted(self, connection: int) -> None:
        """A successor has got one that was passed on."""
        self._seen.accepted.add(connection)
        self.took(connection, old=False)

    def took(self, connection: int, *, old: bool) -> None:
        """A worker has it from here on."""
        self._seen.accepted.add(connection)
        self._connections[connection] = _Connection(old)

    # What a way may do.

    @property
    def now(self) -> float:
        """As in Leaving."""
        return self.system.now()

    def steer_away(self) -> None:
        """As in Leaving."""
        self.system.steer(_listeners(self._new))

    def half_open(self) -> frozenset[int]:
        """As in Leaving."""
        return self.system.half_open()

    def queued(self) -> int:
        """As in Leaving."""
        return sum(map(self.system.queued, _listeners(self._old)))

    def set_backlog(self, backlog: int) -> None:
        """As in Leaving."""
        for one in _listeners(self._old):
            self.system.set_backlog(one, backlog)

    def selected(self) -> int:
        """As in Leaving."""
        return sum(map(self.system.selected, _listeners(self._old)))

    def accepted(self) -> int:
        """As in Leaving."""
        return sum(one.accepted for one in self._old)

    def hand_over(self) -> None:
        """As in Leaving."""
        for one in _listeners(self._old):
            while (connection := self.system.accept(one)) is not None:
                self.system.pass_on(connection)

    def give(self) -> None:
        """As in Leaving."""
        for worker in self._old:
            listener = worker.let_go()
            if listener is not None:
                self._new.append(_Worker(self, listener, old=False))
        self._seen.gone = self.now

    def carry(self) -> int:
        """As in Leaving."""
        theirs = [one for one, what in self._connections.items() if what.old]
        idle = [one for one in theirs if self._connections[one].answered]
        gone = self.system.carry(idle, _listeners(self._new)) if idle else set()
        for one in gone:
            del self._connections[one]
        return len(theirs) - len(gone)

    def close(self) -> None:
        """As in Leaving."""
        self._seen.half_open |= self.system.half_open()
        for worker in self._old:
            listener = worker.let_go()
            if listener is not None:
                self.system.close(listener)
        self._seen.gone = self.now

    # Inside.

    @property
    def _places(self) -> range:
        return range(self.settings.workers)

    def _step(self) -> None:
        pause = next(self._steps, None)
        if pause is not None:
            self.system.later(pause, self._step)
            return
        self._left = True
        for one in [one for one, what in self._connections.items() if what.old and what.answered]:
            self._end(one)

    def _end(self, connection: int) -> None:
        del self._connections[connection]
        self.system.end(connection)


def _listeners(workers: Collection[_Worker]) -> list[int]:
    return [one.listener for one in workers if one.listener is not None]
