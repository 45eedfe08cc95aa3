"""What epoll would report to a program that waits, and where connections went."""

from __future__ import annotations

from dataclasses import dataclass

from segue.model.profile import PostedError
from segue.model.states import State


@dataclass(frozen=True, slots=True)
class Acceptable:
    """A child has come into this listener's accept queue, also by migration (FACTS, wake).

    In the profile SERIES what migrates wakes nobody.
    """

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


@dataclass(frozen=True, slots=True)
class Misstep:
    """Here the series' code, as posted, would not have done what its text says."""

    error: PostedError


Event = Acceptable | Readable | Writable | Moved | Misstep
