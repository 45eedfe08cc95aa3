"""What became of each connection, and the evidence that decides it.

An attempt is one request: a new connection with one request on it, or one request on a kept-alive
connection.  The client gathers two facts, how far the attempt had come (Stage) and how it ended
(End); FATES is the whole decision.  Pure: no socket is looked at here.

Every answer counts as an answer: a 503 is OK here, and its status is counted apart.  What this
machine could not do (no free port, no descriptor) is neither an answer nor a loss by the server.
"""

from __future__ import annotations

import errno
from enum import Enum
from typing import NamedTuple, Self

from segue.errors import IllegalInput


class Fact(Enum):
    """A value that is looked up in a table at every attempt."""

    # Enum's own, in Python, would be called ten times an attempt; members are one of a kind.
    __hash__ = object.__hash__


class Fate(Fact):
    """What became of an attempt; the value is its name in reports and JSON."""

    OK = "ok"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect_timeout"
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    EOF = "eof"
    PARTIAL = "partial"
    MALFORMED = "malformed"
    RESPONSE_TIMEOUT = "response_timeout"
    TLS_FAILED = "tls_failed"
    CUT = "cut"
    CLOSED = "closed"
    IDLE_CLOSED = "idle_closed"
    PORTS_EXHAUSTED = "ports_exhausted"
    LOCAL_ERROR = "local_error"

    @property
    def lost(self) -> bool:
        """The client asked and got no whole answer, by no fault of its own machine."""
        return self not in NOT_LOST

    @property
    def attempt(self) -> bool:
        """A request was sent; False for a kept or held connection that ended by itself."""
        return self not in NOT_ASKED

    @property
    def meaning(self) -> str:
        """The evidence for this fate, as one sentence for readers of a report."""
        return MEANINGS[self]


NOT_LOST = frozenset(
    {Fate.OK, Fate.CLOSED, Fate.IDLE_CLOSED, Fate.PORTS_EXHAUSTED, Fate.LOCAL_ERROR}
)
NOT_ASKED = frozenset({Fate.CUT, Fate.CLOSED, Fate.IDLE_CLOSED})

MEANINGS = {
    Fate.OK: "a whole answer came, whatever its status",
    Fate.REFUSED: "RST in answer to the SYN: no process listened (ECONNREFUSED)",
    Fate.UNREACHABLE: "the network said no: ENETUNREACH, EHOSTUNREACH or their like",
    Fate.CONNECT_TIMEOUT: "no SYN-ACK within the connect timeout",
    Fate.RESET_BEFORE: "RST after the SYN-ACK, before the kernel took a byte of the request",
    Fate.RESET_AFTER: "RST after the request was sent, before a byte of the answer came",
    Fate.EOF: "FIN before a byte of the answer came",
    Fate.PARTIAL: "FIN or RST after a part of the answer",
    Fate.MALFORMED: "bytes came that are no answer to this request",
    Fate.RESPONSE_TIMEOUT: "connected, and no whole answer within the response timeout",
    Fate.TLS_FAILED: "the TLS handshake failed: a certificate that is not accepted, or no TLS",
    Fate.CUT: "a held WebSocket ended without a close frame",
    Fate.CLOSED: "a held WebSocket was closed by a close frame: the client was told",
    Fate.IDLE_CLOSED: "a kept connection ended while no request was out: nothing was lost",
    Fate.PORTS_EXHAUSTED: "this machine had no free local port (EADDRNOTAVAIL)",
    Fate.LOCAL_ERROR: "this machine could not: out of descriptors or memory, or not allowed",
}


class Stage(Fact):
    """How far an attempt had come."""

    CALLING = "in socket(), bind() or connect()"
    CONNECTING = "SYN sent, no SYN-ACK seen"
    CONNECTED = "connected, no byte of the request taken by the kernel"
    HANDSHAKE = "connected, in the TLS handshake"
    SENT = "request sent, no byte of the answer"
    ANSWERING = "part of the answer received"
    IDLE = "every request answered, none out"
    HELD = "a WebSocket held open, no ping out"

    @property
    def asked(self) -> bool:
        """A request is out, and its answer is awaited."""
        return self is not Stage.IDLE and self is not Stage.HELD


class End(Fact):
    """How it ended: what the kernel, the clock or the answer itself said."""

    COMPLETE = "the answer is whole"
    EOF = "recv() returned nothing"
    RESET = "ECONNRESET, EPIPE or ECONNABORTED"
    REFUSED = "ECONNREFUSED"
    UNREACHABLE = "ENETUNREACH, EHOSTUNREACH, ..."
    TIMEOUT = "our limit passed, or ETIMEDOUT"
    NONSENSE = "bytes that no answer has"
    CLOSE = "a WebSocket close frame"
    TLS = "the TLS library refused the handshake"
    EXHAUSTED = "EADDRNOTAVAIL or EADDRINUSE"
    LOCAL = "any other errno"


ENDS = {
    errno.ECONNRESET: End.RESET,
    # A reset that follows a FIN is EPIPE (tcp_reset in net/ipv4/tcp_input.c); so is a write after.
    errno.EPIPE: End.RESET,
    errno.ECONNABORTED: End.RESET,
    errno.ECONNREFUSED: End.REFUSED,
    errno.ENETUNREACH: End.UNREACHABLE,
    errno.EHOSTUNREACH: End.UNREACHABLE,
    errno.ENETDOWN: End.UNREACHABLE,
    errno.EHOSTDOWN: End.UNREACHABLE,
    errno.ENONET: End.UNREACHABLE,
    errno.ETIMEDOUT: End.TIMEOUT,
    errno.EADDRNOTAVAIL: End.EXHAUSTED,
    errno.EADDRINUSE: End.EXHAUSTED,
}


class Ended(NamedTuple):
    """How it ended, and the words for an example of it."""

    end: End
    note: str = ""

    @classmethod
    def by(cls, error: OSError) -> Self:
        """What this error stands for."""
        return cls.by_errno(error.errno or 0)

    @classmethod
    def by_errno(cls, number: int) -> Self:
        """What this errno stands for, noted by its symbolic name."""
        return cls(end_of(number), errno.errorcode.get(number, str(number)))


FATES: dict[tuple[Stage, End], Fate] = {
    # On loopback the whole handshake runs inside connect(), so it may bring any news of it.
    (Stage.CALLING, End.REFUSED): Fate.REFUSED,
    (Stage.CALLING, End.RESET): Fate.RESET_BEFORE,
    (Stage.CALLING, End.UNREACHABLE): Fate.UNREACHABLE,
    (Stage.CALLING, End.TIMEOUT): Fate.CONNECT_TIMEOUT,
    (Stage.CALLING, End.EXHAUSTED): Fate.PORTS_EXHAUSTED,
    (Stage.CALLING, End.LOCAL): Fate.LOCAL_ERROR,
    (Stage.CONNECTING, End.REFUSED): Fate.REFUSED,
    # Linux says ECONNREFUSED to SYN-SENT only: a reset here came after the SYN-ACK.
    (Stage.CONNECTING, End.RESET): Fate.RESET_BEFORE,
    (Stage.CONNECTING, End.UNREACHABLE): Fate.UNREACHABLE,
    (Stage.CONNECTING, End.TIMEOUT): Fate.CONNECT_TIMEOUT,
    (Stage.CONNECTING, End.EXHAUSTED): Fate.PORTS_EXHAUSTED,
    (Stage.CONNECTING, End.LOCAL): Fate.LOCAL_ERROR,
    (Stage.CONNECTED, End.COMPLETE): Fate.OK,
    (Stage.CONNECTED, End.EOF): Fate.EOF,
    (Stage.CONNECTED, End.RESET): Fate.RESET_BEFORE,
    (Stage.CONNECTED, End.REFUSED): Fate.UNREACHABLE,  # see SENT
    (Stage.CONNECTED, End.UNREACHABLE): Fate.UNREACHABLE,
    (Stage.CONNECTED, End.TIMEOUT): Fate.RESPONSE_TIMEOUT,
    (Stage.CONNECTED, End.EXHAUSTED): Fate.LOCAL_ERROR,
    (Stage.CONNECTED, End.LOCAL): Fate.LOCAL_ERROR,
    (Stage.HANDSHAKE, End.EOF): Fate.EOF,
    # The request cannot go before the handshake is over.
    (Stage.HANDSHAKE, End.RESET): Fate.RESET_BEFORE,
    (Stage.HANDSHAKE, End.REFUSED): Fate.UNREACHABLE,  # see SENT
    (Stage.HANDSHAKE, End.UNREACHABLE): Fate.UNREACHABLE,
    (Stage.HANDSHAKE, End.TIMEOUT): Fate.RESPONSE_TIMEOUT,
    (Stage.HANDSHAKE, End.TLS): Fate.TLS_FAILED,
    (Stage.HANDSHAKE, End.EXHAUSTED): Fate.LOCAL_ERROR,
    (Stage.HANDSHAKE, End.LOCAL): Fate.LOCAL_ERROR,
    (Stage.SENT, End.COMPLETE): Fate.OK,
    (Stage.SENT, End.CLOSE): Fate.CLOSED,
    (Stage.SENT, End.EOF): Fate.EOF,
    (Stage.SENT, End.RESET): Fate.RESET_AFTER,
    # An ICMP error heard earlier is what tcp_write_err (net/ipv4/tcp_timer.c) says in the end.
    (Stage.SENT, End.REFUSED): Fate.UNREACHABLE,
    (Stage.SENT, End.UNREACHABLE): Fate.UNREACHABLE,
    (Stage.SENT, End.TIMEOUT): Fate.RESPONSE_TIMEOUT,
    (Stage.SENT, End.EXHAUSTED): Fate.LOCAL_ERROR,
    (Stage.SENT, End.LOCAL): Fate.LOCAL_ERROR,
    (Stage.ANSWERING, End.COMPLETE): Fate.OK,
    (Stage.ANSWERING, End.EOF): Fate.PARTIAL,
    (Stage.ANSWERING, End.RESET): Fate.PARTIAL,
    (Stage.ANSWERING, End.REFUSED): Fate.PARTIAL,
    (Stage.ANSWERING, End.UNREACHABLE): Fate.PARTIAL,
    # Stalled rather than cut: the server still holds the connection.
    (Stage.ANSWERING, End.TIMEOUT): Fate.RESPONSE_TIMEOUT,
    (Stage.ANSWERING, End.NONSENSE): Fate.MALFORMED,
    (Stage.ANSWERING, End.EXHAUSTED): Fate.LOCAL_ERROR,
    (Stage.ANSWERING, End.LOCAL): Fate.LOCAL_ERROR,
    (Stage.IDLE, End.EOF): Fate.IDLE_CLOSED,
    (Stage.IDLE, End.RESET): Fate.IDLE_CLOSED,
    (Stage.IDLE, End.UNREACHABLE): Fate.IDLE_CLOSED,
    (Stage.IDLE, End.TIMEOUT): Fate.IDLE_CLOSED,
    # Some servers say 408 before they close an idle connection.
    (Stage.IDLE, End.NONSENSE): Fate.IDLE_CLOSED,
    # Whatever ended it, nothing was asked.
    (Stage.IDLE, End.REFUSED): Fate.IDLE_CLOSED,
    (Stage.IDLE, End.EXHAUSTED): Fate.IDLE_CLOSED,
    (Stage.IDLE, End.LOCAL): Fate.IDLE_CLOSED,
    # A WebSocket is a session: its user notices the end of one whatever had been asked.
    (Stage.HELD, End.CLOSE): Fate.CLOSED,
    (Stage.HELD, End.EOF): Fate.CUT,
    (Stage.HELD, End.RESET): Fate.CUT,
    (Stage.HELD, End.REFUSED): Fate.CUT,
    (Stage.HELD, End.UNREACHABLE): Fate.CUT,
    (Stage.HELD, End.TIMEOUT): Fate.CUT,
    (Stage.HELD, End.NONSENSE): Fate.CUT,
    (Stage.HELD, End.EXHAUSTED): Fate.LOCAL_ERROR,
    (Stage.HELD, End.LOCAL): Fate.LOCAL_ERROR,
}


def end_of(number: int) -> End:
    """The End an errno stands for; one that says nothing about the server is LOCAL."""
    return ENDS.get(number, End.LOCAL)


def decide(stage: Stage, end: End) -> Fate:
    """The fate for these two facts.

    Raises IllegalInput for a pair that cannot be, such as a whole answer before the connection.
    """
    try:
        return FATES[stage, end]
    except KeyError:
        legal = [known.name for at, known in FATES if at is stage]
        raise IllegalInput("an attempt", stage.name, end.name, legal) from None
