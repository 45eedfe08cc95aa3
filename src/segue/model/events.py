"""What epoll would report to a program that waits, and where connections went."""

from __future__ import annotations

from dataclasses import dataclass

from segue.model.states import State


@dataclass(frozen=True, slots=True)
class Acceptable:
    """A child has come into this listener's accept queue, also by migration (FACTS, wake)."""

    listener: int


@dataclass(frozen=True, slots=True)
class Readable:
    """Data, the end of data, or an error waits at this accepted connection."""

    connection: int


@dataclass(frozen=True, slots=True)
class Writable:
    """There is room again in an accepted connection that had none."""

    connection: int


@dataclass(frozen=True, slots=True)
class Moved:
    """A request or child left its listener: for ``target``, or, with None, lost."""

    cookie: int
    state: State
    source: int
    target: int | None


Event = Acceptable | Readable | Writable | Moved
