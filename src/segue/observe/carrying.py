"""Whether an accepted connection may be carried to another listener: a rule over values.

*Carried*: it is taken out of the process that accepted it, and put into the accept queue of another
listener of its group, with the same sequence numbers.  What is refused here is refused before
anything is done to the connection.  Most of it could not be found out afterwards: the kernel makes
the new connection without a word about what it cannot give it, or not at all, when there is no way
back.

An answer is *owed* unless something was written since the client last sent something.  Where that
was not noted, it is owed unless the client's last segment acknowledged something and carried
nothing.  Segments that are repeated can deceive that: it is for who knows by another's word that
the owner waits for a request.

That an answer is whole, the kernel does not know: one in several writes looks finished in its
pauses.  Whoever asks for a carry knows more, or asks for the rule of HTTP/1.x (``by_notes``).  That
goes by the answer itself, where it was followed to the last byte that was sent (``answer.py``).
Where it was not, the notes tell requests whose answers may pause, and beyond that time decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from segue.observe.answer import UNSEEN, Answer, Phase
from segue.observe.request_head import METHODS, Seen

ESTABLISHED, LISTEN = 1, 10  # enum tcp_state of the kernel
_ECN, _ACCURATE_ECN = 0x01, 0x10  # TCP_ECN_MODE_RFC3168, TCP_ECN_MODE_ACCECN (include/net/tcp.h)
# The first window of the connection that is made; what does not fit would be acknowledged and lost.
MOST_UNREAD = 60_000
CLASSIC = (1 << 32) - 1  # a filter in classic BPF has no number
# The kernel raises a smaller one to this (the defaults of RFC 9293 and of RFC 8200, less headers).
LEAST_MSS = {4: 536, 6: 1220}


class Refusal(Enum):
    """Why a connection is left where it is; the value is the sentence."""

    SYNCOOKIES_OFF = "net.ipv4.tcp_syncookies is 0: the kernel would reset what is carried"
    TIMESTAMPS_OFF = "net.ipv4.tcp_timestamps is 0, and the connection has timestamps"
    SACK_OFF = "net.ipv4.tcp_sack is 0, and the connection has selective acknowledgements"
    SCALING_OFF = "net.ipv4.tcp_window_scaling is 0, and the connection has window scaling"
    NO_TARGET = "no other listener is there for it"
    TARGET_FULL = "a listener that it might come to has no room in its queue"
    BOUND = "it, or a listener that it might come to, is bound to one interface"
    UNSEEN = "its client comes by an interface on which its segments cannot be looked at"
    NOT_TCP = (
        "it, or a listener that it might come to, is not plain TCP: Multipath TCP, or with a layer"
        " of the kernel such as TLS"
    )
    FILTERED = "it has a filter of its own, whose place the hold would take"
    LOCKED = "its owner has locked its filter (SO_LOCK_FILTER), so that it cannot be held"
    TAPPED = (
        "a program receives IP packets at loopback by a packet socket for just these (packet(7)):"
        " the kernel would lose what makes the connection"
    )
    TRANSLATED = "its client connected to another address or port (NAT)"
    NOT_FOUND = "no such connection is found here: it has ended, or is link-local"
    NOT_ESTABLISHED = "it is not established: one side has ended it"
    UNACKNOWLEDGED = "its client has not acknowledged all that was written"
    URGENT = "it has urgent data, or data that cannot be looked at"
    UNREAD = f"more of it is unread than fits in a first window ({MOST_UNREAD} bytes or less)"
    OWED = "an answer is owed"
    WAITING = "its owner has not read what its client sent last"
    NO_REQUEST_LINE = "what its client sent last does not begin with a request line of HTTP/1.x"
    NO_NOTES = "what its client sent was not noted: it was accepted before its listener was watched"
    HTTP2 = "it speaks HTTP/2"
    UPGRADED = "its last request asked for another protocol (Upgrade, CONNECT)"
    STREAM = "its last request asked for events without an end (text/event-stream)"
    EXPECTED = "its last request has two answers (Expect)"
    NOT_ONE = "what its client sent since the last answer is not one whole request"
    CHUNKED = "the head of its last request does not say where it ends"
    LONG_HEAD = "the head of its last request came in pieces, or is longer than what is looked at"
    EARLY = "its client has sent a request before it had the answer to the one before"
    PART = "its last answer is not whole"
    HINTED = "its last answer has only been announced (1xx)"
    UNTIL_CLOSE = "its last answer ends with the connection"
    CLOSING = "its last answer said that it is the last (Connection: close)"
    UNASKED = "its owner has sent more than the answer"
    RECENT = "something was sent or came a moment ago"
    SMALL_MSS = "its client takes only segments smaller than the kernel's least"
    MICROSECONDS = "its timestamps count microseconds"
    ACCURATE_ECN = "its ends have agreed on accurate ECN, which the kernel would not go on with"
    OWNER_RUNS = "its owner could not be stopped (ptrace)"
    LATE = "this machine was too busy: the hold was about to end"
    KERNEL = "the kernel refused a step of it"
    NO_TIME = "its owner had been stopped for as long as it may be"


# What may be over a moment later, without a pause of anybody.
TURNING = frozenset({Refusal.UNACKNOWLEDGED, Refusal.OWED, Refusal.PART})
# An answer of which it is known that more is to come: its worker has to be left to it.
ANSWERING = frozenset({Refusal.PART, Refusal.HINTED, Refusal.UNTIL_CLOSE})


@dataclass(frozen=True, slots=True)
class Host:
    """The settings of the network namespace that count."""

    syncookies: int = 1
    timestamps: int = 1
    sack: int = 1
    window_scaling: int = 1
    tapped: bool = False  # a packet socket for IP alone is at loopback


@dataclass(frozen=True, slots=True)
class Target:
    """A listener that the connection might come to."""

    queue: int  # connections that wait in its accept queue
    backlog: int  # it holds one more
    receive_buffer: int  # SO_RCVBUF, of which half is the window
    bound: bool = False  # to an interface
    plain: bool = True  # TCP, and not Multipath TCP


@dataclass(frozen=True, slots=True)
class Outside:
    """What is known of a connection before it is held."""

    connected: bool = True
    plain: bool = True
    bound: bool = False
    translated: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What the kernel has of a connection, read while nothing more reaches it.

    Sequence numbers are as on the wire, modulo 2**32.  The names are those of struct tcp_sock.
    """

    state: int
    rcv_nxt: int
    snd_nxt: int
    snd_una: int
    write_seq: int
    copied_seq: int  # up to here its owner has read
    snd_wl1: int  # the first byte of the segment that last acknowledged or carried something
    snd_wnd: int  # bytes
    urg_data: int
    ts_recent: int
    mss_clamp: int  # the client's MSS option, and no more than the owner's
    snd_wscale: int
    rcv_wscale: int
    wscale_ok: int
    sack_ok: int
    tstamp_ok: int
    ecn_flags: int
    usec: int
    bytes_received: int = 0  # since it was accepted here, also by a carry
    interface: int = 0  # by which its client comes, by index; 0 when that is not known
    filter_id: int = 0  # the program that is its filter, CLASSIC, or 0

    @property
    def ecn(self) -> bool:
        """Its ends have agreed on ECN as in RFC 3168."""
        return bool(self.ecn_flags & _ECN)

    @property
    def unread(self) -> int:
        """Bytes that its owner has not read."""
        return (self.rcv_nxt - self.copied_seq) % (1 << 32)


@dataclass(frozen=True, slots=True)
class Note:
    """What the filter noted when the client last sent something."""

    time_ns: int  # CLOCK_MONOTONIC
    written: int  # write_seq then
    start: int  # the number of the first byte of its last request
    end: int  # the number after its last byte, if its head was seen whole
    seen: Seen
    answer: Answer = UNSEEN


def before(host: Host, outside: Outside, targets: Sequence[Target]) -> Refusal | None:
    """Why it is not to be tried at all; None when it may be."""
    if not host.syncookies:
        return Refusal.SYNCOOKIES_OFF
    if host.tapped:
        return Refusal.TAPPED
    if not outside.connected:
        return Refusal.NOT_ESTABLISHED
    if not outside.plain or not all(one.plain for one in targets):
        return Refusal.NOT_TCP
    if not targets:
        return Refusal.NO_TARGET
    if outside.bound or any(one.bound for one in targets):
        return Refusal.BOUND
    if any(one.queue > one.backlog for one in targets):
        return Refusal.TARGET_FULL
    if outside.translated:
        return Refusal.TRANSLATED
    return None


def room(targets: Sequence[Target]) -> int:
    """How much unread data any of them takes as the first of a connection."""
    return min((MOST_UNREAD, *(one.receive_buffer // 2 for one in targets)))


def refusal(
    host: Host, held: Held, version: int, room: int, note: Note | None = None
) -> Refusal | None:
    """Why it is let go again; None when it is to be carried, if what is unread can be.

    ``version`` is 4 or 6, by the packets.
    """
    if held.state != ESTABLISHED:
        return Refusal.NOT_ESTABLISHED
    if held.snd_una != held.write_seq or held.snd_nxt != held.write_seq:
        return Refusal.UNACKNOWLEDGED
    if held.unread > room:
        return Refusal.UNREAD
    if held.urg_data:
        return Refusal.URGENT
    if _owed(held, note):
        return Refusal.OWED
    if note is not None and note.seen & Seen.EARLY:
        return Refusal.EARLY
    if note is not None and not held.unread and _torn(held, note):
        return _begun(held, note) or Refusal.NOT_ONE
    if held.usec:
        return Refusal.MICROSECONDS
    if held.ecn_flags & _ACCURATE_ECN:
        return Refusal.ACCURATE_ECN
    if held.mss_clamp < LEAST_MSS[version]:
        return Refusal.SMALL_MSS
    if held.tstamp_ok and not host.timestamps:
        return Refusal.TIMESTAMPS_OFF
    if held.sack_ok and not host.sack:
        return Refusal.SACK_OFF
    if held.wscale_ok and not host.window_scaling:
        return Refusal.SCALING_OFF
    return None


def _owed(held: Held, note: Note | None) -> bool:
    """Of what its owner has read; what is unread must be all of a request."""
    if note is None:
        # One segment, behind an answer that was acknowledged.
        return held.snd_wl1 != held.copied_seq
    if held.unread:
        return note.start != held.copied_seq
    return note.written == held.write_seq


def _torn(held: Held, note: Note) -> bool:
    """A part of a request is in its owner's hands, as far as heads tell where requests end."""
    told = note.seen & (Seen.LINE | Seen.UNFINISHED | Seen.CHUNKED) == Seen.LINE
    return told and note.end != held.copied_seq


def with_unread(payload: bytes, unread: int) -> Refusal | None:
    """Why what is unread cannot go along; ``payload`` is what could be looked at of it."""
    if len(payload) != unread:
        return Refusal.URGENT
    if payload and not payload.startswith(METHODS):
        return Refusal.NO_REQUEST_LINE
    return None


# In the order in which they are said.
_SPOKEN = {
    Seen.PREFACE: Refusal.HTTP2,
    Seen.UPGRADE: Refusal.UPGRADED,
    Seen.STREAM: Refusal.STREAM,
    Seen.EXPECT: Refusal.EXPECTED,
}
# By what was seen of an answer, all of it, so far.
_GOES_ON = {
    Phase.UNTIL_CLOSE: Refusal.UNTIL_CLOSE,
    Phase.TUNNEL: Refusal.UPGRADED,
    Phase.MORE: Refusal.UNASKED,
    Phase.HEAD: Refusal.HINTED,
}


def by_notes(held: Held, note: Note | None, quiet: float, grace: float) -> Refusal | None:
    """The rule for HTTP/1.x, after ``refusal``: why its last answer may not be whole yet.

    ``quiet`` is for how many seconds neither side has sent data.
    """
    if held.bytes_received:
        if note is None:
            return Refusal.NO_NOTES
        whole = _followed(held, note)
        if whole and (why := _unfinished(note)) is not None:
            return why
        if whole and held.unread:
            return None
        for seen, why in _SPOKEN.items():
            if note.seen & seen and not whole:
                return why
        if not note.seen & Seen.LINE:
            return Refusal.NO_REQUEST_LINE
        if note.seen & Seen.UNFINISHED:
            return Refusal.LONG_HEAD
        if note.seen & Seen.CHUNKED:
            return Refusal.CHUNKED
        # Behind the last answer its owner is about to end it.
        if whole and not note.seen & Seen.LAST:
            return None
    # Its owner has read nothing at all: nobody works on anything.
    unbegun = held.unread > 0 and held.unread == held.bytes_received
    return Refusal.RECENT if quiet < grace and not unbegun else None


def _followed(held: Held, note: Note) -> bool:
    """What was sent last belongs to the last answer, and every byte of that was seen."""
    answer = note.answer
    next_waits = held.unread > 0 and note.start == held.copied_seq
    last = next_waits or note.start == answer.to
    return last and answer.at == held.write_seq and answer.phase > Phase.UNKNOWN


def _begun(held: Held, note: Note) -> Refusal | None:
    """More of its answer is to come, of which a part or a 100 was sent before the request's end."""
    why = _unfinished(note) if _followed(held, note) else None
    return why if why in ANSWERING else None


def _unfinished(note: Note) -> Refusal | None:
    """Why its owner is not done with it, although all that was sent was seen."""
    phase = note.answer.phase
    if phase is Phase.WHOLE:
        return Refusal.CLOSING if note.answer.closes else None
    if note.seen & Seen.STREAM and (phase is Phase.UNTIL_CLOSE or phase >= Phase.HEAD):
        return Refusal.STREAM
    return _GOES_ON.get(phase, Refusal.PART)
