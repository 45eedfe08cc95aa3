"""What epoll would report to a program that waits, where connections went, and what decided it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

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


class Occasion(Enum):
    """When something may move; never at any other time."""

    STOP = auto()  # its listener was closed or shut down
    ACK = auto()  # a segment came for it
    TIMER = auto()  # its SYN-ACK was to be sent again


class Choice(Enum):
    """What decided where it goes; each of the last five is why it goes nowhere."""

    PROGRAM = auto()
    HASH = auto()
    NEIGHBOUR = auto()  # of a whole queue, in the series (whole_queue.py)
    CANCELLED = auto()  # by the program
    NOBODY_LISTENS = auto()
    SWITCH_IS_OFF = auto()
    NOT_KEPT = auto()  # migration was off when its listener stopped: it has no group any more
    NOT_SHARED = auto()  # its listener is without SO_REUSEPORT


@dataclass(frozen=True, slots=True)
class Moved:
    """A request or child left its listener: for ``target``, or, with None, lost."""

    cookie: int
    state: State
    source: int
    target: int | None
    occasion: Occasion
    choice: Choice


@dataclass(frozen=True, slots=True)
class Stopped:
    """A listener listens no more; ``kept`` is whether its group keeps it, in its closed section,
    for what refers to it.
    """

    listener: int
    kept: bool


@dataclass(frozen=True, slots=True)
class Miscounted:
    """A request was counted in at ``kept_by`` and out at ``counted_out``, which now has one too
    few: profile.Difference.MOVES_WITH_ITS_CHILD.
    """

    cookie: int
    kept_by: int
    counted_out: int


class Refusal(Enum):
    """Why a listener did not take a segment."""

    HALF_OPEN_ARE_FULL = auto()  # and no SYN cookie may be sent
    QUEUE_IS_FULL = auto()  # of what waits for accept(); the segment is a SYN or a final ACK
    RESERVED = auto()  # the last quarter of tcp_max_syn_backlog is for clients that are known


@dataclass(frozen=True, slots=True)
class Refused:
    """This listener dropped a SYN, or an ACK that would have ended a handshake."""

    listener: int
    reason: Refusal


@dataclass(frozen=True, slots=True)
class CookieSent:
    """This listener answered a SYN with a cookie, and keeps nothing of it."""

    listener: int


class Timer(Enum):
    """Whose time has come."""

    SYN_ACK = auto()  # of a half-open request or a Fast Open child
    RETRANSMISSION = auto()
    TAIL_PROBE = auto()  # RFC 8985, 7
    WINDOW_PROBE = auto()  # the peer's window is shut, or too small
    DELAYED_ACK = auto()
    KEEPALIVE = auto()
    END = auto()  # of TIME_WAIT, or of an orphan in FIN_WAIT2


@dataclass(frozen=True, slots=True)
class Fired:
    """A timer of this request or connection."""

    cookie: int
    timer: Timer


@dataclass(frozen=True, slots=True)
class Misstep:
    """Here the series' code, as posted, would not have done what its text says."""

    error: PostedError


Event = (
    Acceptable
    | Readable
    | Writable
    | Stopped
    | Moved
    | Miscounted
    | Refused
    | CookieSent
    | Fired
    | Misstep
)
