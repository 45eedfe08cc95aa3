"""A script as values: what its language can say of a listening side, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands; both count from 1."""

    line: int
    column: int


# What a call is given, and what it is to give back.


@dataclass(frozen=True, slots=True)
class Number:
    """Of bytes, a descriptor, ..."""

    value: int


@dataclass(frozen=True, slots=True)
class Word:
    """A constant by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Text:
    """Between quotation marks; with ``open_ended`` more may follow."""

    value: str


@dataclass(frozen=True, slots=True)
class Whatever:
    """``...``: nothing is said of it."""


@dataclass(frozen=True, slots=True)
class Union:
    """Bits of several, with ``|`` between them."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Items:
    """``[a, b]``."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """``{name=value, ...}``; what has no name comes in ``rest``."""

    fields: dict[str, Expression]
    rest: tuple[Expression, ...] = ()


Expression = Number | Word | Text | Whatever | Union | Items | Record


# What happens.


class Clock(Enum):
    """What a time counts from."""

    START = auto()
    PREVIOUS = auto()  # the event before
    ANY = auto()  # ``*``


@dataclass(frozen=True, slots=True)
class When:
    """In seconds; with ``until`` at any instant between the two."""

    clock: Clock
    at: float = 0.0
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """One TCP option by packetdrill's name, with its numbers, or its bytes (cookies)."""

    name: str
    numbers: tuple[int, ...] = ()
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Segment:
    """``options`` is None where any will do, ``ack`` and ``window`` where none is said.

    ``flags`` are bits of the header (segue.wire.tcp); ``ecn`` the two bits of IP, or None.
    """

    outbound: bool
    flags: int
    seq: int
    size: int
    ack: int | None = None
    window: int | None = None
    urgent: int = 0
    options: tuple[Option, ...] | None = ()
    ecn: int | None = None
    ports: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Icmp:
    """A router's or host's word about a segment of ours; ``seq`` and ``size`` name that."""

    kind: str
    code: str
    mtu: int | None = None
    seq: int | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """``result`` is None where any will do.  With ``until`` it may wait so long (in seconds, by the
    clock of its event); without, it must not.
    """

    name: str
    arguments: tuple[Expression, ...]
    result: int | None
    error: str | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """Between ``%{`` and ``}%``."""

    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """Between backticks."""

    text: str


Action = Segment | Icmp | Call | Code | Command


@dataclass(frozen=True, slots=True)
class Event:
    """``text`` is as the script has it, in one line."""

    place: Place
    when: When
    action: Action
    text: str


@dataclass(frozen=True, slots=True)
class Script:
    """Settings are the ``--name=value`` lines at its head."""

    file: str
    settings: dict[str, str]
    events: tuple[Event, ...]
    places: dict[str, Place] = field(default_factory=dict)  # of the settings
