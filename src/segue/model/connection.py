"""A connection: what both sides have sent, what the program has read, and when to look again.

Stands for ``struct tcp_sock``.  A record: what arrives is judged in segment_arrives.py, what is
sent is decided in output.py, and the clock is minded in retransmission.py.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING

from segue.model.arrival import Path
from segue.model.durations import TIMEOUT_FALLBACK
from segue.model.request import HEADERS, STAMPS_SIZE, Request, Terms
from segue.model.states import CLOSE, OPEN, SYN_RECV, Congestion, Input, State, after
from segue.wire.seq import Seq, add, before, distance, later

if TYPE_CHECKING:
    from segue.model.listener import Listener
    from segue.model.receive_memory import ReceiveBuffer

_MOST_RANGES = 4  # that a receiver remembers (TCP_NUM_SACKS)
_SMALL_WINDOW = 536  # up to which one segment may fill it (tcp_bound_to_half_wnd)
_LEAST_SIZE = 48  # TCP_MIN_SND_MSS
INITIAL_WINDOW = 10  # segments (RFC 6928, TCP_INIT_CWND)
NO_THRESHOLD = 0x7FFFFFFF  # TCP_INFINITE_SSTHRESH
# Pieces kept before their turn: five windows of full segments.  Linux bounds the memory instead
# (tcp_prune_ofo_queue), of which a piece of one byte takes most of a kilobyte: some 170 of them.
MOST_EARLY = 256
_offset: Callable[[tuple[int, bytes]], int] = itemgetter(0)


def half_window(window: int, size: int, *, stamps: bool) -> int:
    """A size, but at most half of the peer's largest window (tcp_bound_to_half_wnd)."""
    most = window >> 1 if window > _SMALL_WINDOW else window
    least = _LEAST_SIZE - (STAMPS_SIZE if stamps else 0)
    return min(size, max(most, least)) if most else size


@dataclass(slots=True, eq=False)
class Flight:
    """A segment that was sent and is not acknowledged."""

    start: Seq
    end: Seq
    sent_at: float
    pushed: bool = False  # it has PSH, which it keeps when it is sent again
    buffer: Seq | None = None  # where that begins which was sent at once with it
    sacked: bool = False
    lost: bool = False
    again: bool = False  # it was sent again since it was taken for lost
    repeated: bool = False  # at any time

    def is_one_with(self, other: Flight) -> bool:
        """Linux has both in one buffer: what is known of parts of one divides it."""
        return self.buffer == other.buffer and self._known == other._known

    def take_in(self, following: Flight) -> None:
        """Of as many bytes, and the peer has told of both: Linux puts them into one buffer
        (tcp_shift_skb_data).
        """
        size = distance(self.start, self.end)
        if self._known == following._known and size == distance(following.start, following.end):
            following.buffer = self.buffer

    @property
    def _known(self) -> tuple[float, bool, bool, bool, bool]:
        return self.sent_at, self.sacked, self.lost, self.again, self.repeated


@dataclass(slots=True, eq=False)
class Connection:
    """``outgoing`` holds what the peer has not acknowledged; its first byte has number ``base``."""

    cookie: int
    path: Path
    flow: bytes
    hash: int
    state: State
    terms: Terms
    options: dict[str, int]
    rcv_nxt: Seq
    base: Seq
    snd_una: Seq
    snd_nxt: Seq
    snd_wnd: int
    ts_recent: int
    ts_offset: int
    listener: Listener | None  # whose accept queue it waits in; None once accepted
    request: Request | None = None  # of a Fast Open child whose handshake is not over
    saved_syn: bytes | None = None
    held: Listener | None = None  # the one that stopped, and that its request still refers to
    # Of the peer's window: where it was last told (RFC 9293, 3.10.7.4).
    snd_wl1: Seq = field(default=Seq(0))
    snd_max_wnd: int = 0
    reckoned_wnd: int = 0  # the largest, as it was when segments were reckoned (tcp_sync_mss)
    segment_size: int = 0  # the most data that fits into a segment beside its options
    full_size: int = 0  # the same, but at most half of the largest window of the peer
    # What came in.
    incoming: bytearray = field(default_factory=bytearray)
    early: list[tuple[int, bytes]] = field(default_factory=list)  # by distance from ``origin``
    origin: Seq = field(default=Seq(0))
    ranges: tuple[tuple[int, int], ...] = ()  # of these, the latest first
    repeated: tuple[Seq, Seq] | None = None  # what came though we had it, until the peer is told
    offered_edge: Seq = field(default=Seq(0))  # the right edge of the window we offered
    sent_ack: Seq = field(default=Seq(0))
    fin_at: Seq | None = None  # where the peer's first FIN is, if it came early
    peer_ended: bool = False  # the peer's FIN has arrived in its turn
    buffer: ReceiveBuffer | None = None  # since data has come
    quick: int = 0  # segments that are acknowledged at once
    owed: bool = False  # an ACK, for data
    interactive: bool = False  # the program answers what it reads: ACKs may wait for the answer
    ack_delay: float = 0.0  # for how long, at most
    heard_at: float = -inf  # when data last arrived
    syn_data: bool = False  # some came with the SYN
    received: int = 0  # bytes, since the beginning; a FIN counts as one
    made_at: float = -inf
    acked_at: float = -inf  # when an ACK last arrived, or the connection was made
    ack_now: bool = False  # something is to be said, if no data says it
    # What goes out.
    outgoing: bytearray = field(default_factory=bytearray)
    fin_wanted: bool = False
    fin_later: bool = False  # when the handshake of a Fast Open child is over
    fin_sent: bool = False
    fin_split: bool = (
        False  # a probe of the window took the data of its segment, whose PSH it keeps
    )
    tail: Seq = field(default=Seq(0))  # where the last segment that was new began
    small: Seq = field(default=Seq(0))  # where the last one that was not full ended
    cwnd: int = INITIAL_WINDOW
    ssthresh: int = NO_THRESHOLD
    credit: int = 0  # towards one more segment in cwnd
    acked: int = 0  # bytes, since the beginning
    delivered: int = 0  # segments that the peer has told to have; the SYN-ACK is one
    limited: bool = False  # cwnd was full when something was sent last (is_cwnd_limited)
    most_flying: int = 0  # in this round trip (max_packets_out)
    round_end: Seq = field(default=Seq(0))  # of that (cwnd_usage_seq)
    sent_at: float = 0.0  # when data was sent last
    wrote_at: float = -inf  # when anything was
    pieces: list[Seq] = field(default_factory=list)  # where each of Linux's buffers ends
    send_buffer: int = 0  # to which it has grown
    stalled: bool = False  # somebody waits for room
    pushed: Seq = field(default=Seq(0))  # where the last write ended that held nothing back
    pushes: tuple[Seq, ...] = ()  # where buffers end that have PSH
    flying: list[Flight] = field(default_factory=list)
    # Congestion that the way tells of (RFC 3168).
    echoes: bool = False  # the peer is told, until it says that it sends less
    sends_less: bool = False  # the peer is to be told so
    # Loss (recovery.py).
    congestion: Congestion = OPEN
    high_seq: Seq = field(default=Seq(0))  # what was sent when that began
    presumed: int = 0  # segments that have arrived, by duplicate ACKs, without SACK
    doubts_timeout: bool = False
    reordering: int = 3  # by how many segments the way is known to change their order
    reordered: bool = False  # it did, ever
    prior_cwnd: int = 0
    prior_ssthresh: int = 0  # 0: the way has said itself that it is congested
    prr_delivered: int = 0
    prr_out: int = 0
    rack_rtt: float = 0.0
    rack_newest: tuple[float, Seq] = (-inf, Seq(0))  # sent last of what has arrived: when, its end
    rack_news: bool = False
    settle_steps: int = 1  # for how many quarters of a round trip what is late is waited for
    settle_rounds: int = 0
    settled_at: float = -inf
    told_twice: bool = False
    least_rtt: float = inf
    probe_end: Seq | None = None  # what was sent when the tail was asked about
    probe_repeats: bool = False  # by something that had been sent before
    # Whether that was wrong (undo.py).
    echo: int = 0  # of our stamps, the one that came back last
    told_echo: int = 0  # the one that told the receiver's round trip last, or could not
    first_repeat: int | None = None  # our stamp when something was sent again first
    repetitions: int = 0
    twice: int = 0  # segments that came twice, as the peer says
    undo_from: Seq | None = None
    undo_left: int = -1  # repetitions that have not come twice
    # Time.
    srtt: float | None = None
    rttvar: float = 0.0
    rto: float = TIMEOUT_FALLBACK
    backoff: int = 0
    timeouts: int = 0  # since something was acknowledged
    probes: int = 0  # of a shut window, since the peer was heard last
    retransmit_at: float = inf
    short: bool = False  # that or what is late is looked for before a whole timeout is over
    reordering_at: float = inf  # what is late then is lost
    ack_at: float = inf
    keep_at: float = inf  # SO_KEEPALIVE asks
    repeating_since: float | None = None  # the first timeout of what waits for its ACK now
    end_at: float = inf  # of TIME_WAIT or of an orphan's FIN_WAIT2
    answered_at: float = -inf
    # The program.
    orphan: bool = False
    waiting: bool = False  # it is counted among those that only wait
    whole: bool = False  # it is not, though it is an orphan that only waits for a FIN
    error: int = 0  # the errno of the next call
    receive_shut: bool = False
    due: float = inf
    wake: float = inf

    def reckon_sizes(self) -> None:
        """Where the sizes of segments may have changed.

        The window of a SYN counts as if it were scaled, since the child does not know yet that it
        is one of Fast Open (tcp_fastopen_create_child).
        """
        stamps, most = self.terms.stamps, self.reckoned_wnd
        size = self.segment_size = max(1, self.terms.mss - (STAMPS_SIZE if stamps else 0))
        self.full_size = size if most >= 2 * size else half_window(most, size, stamps=stamps)

    @property
    def sending_size(self) -> int:
        """The same for the next segment, with which SACK ranges may go along (tcp_current_mss)."""
        if not (self.early or self.repeated) or not self.terms.sack:
            return self.full_size
        told = len(self.ranges) + (self.repeated is not None)
        return max(1, self.full_size - 4 - 8 * min(told, self._most_blocks))

    @property
    def end(self) -> Seq:
        """The number after all data that the program has written."""
        return add(self.base, len(self.outgoing))

    @property
    def shakes_hands(self) -> bool:
        """It is a Fast Open child whose handshake is not over, and that was not closed: after that
        it is in FIN_WAIT1 to Linux, although its FIN may still wait for the window.
        """
        return self.state is SYN_RECV and not self.fin_wanted

    def sent_at_once(self, place: int) -> int:
        """How many segments in flight are one to Linux, of which this is the first."""
        first, count = self.flying[place], 1
        if first.buffer is None:
            return count
        for one in islice(self.flying, place + 1, None):
            if not first.is_one_with(one):
                break
            count += 1
        return count

    @property
    def unsent(self) -> int:
        """How many numbers wait to be sent: those of the data, and the FIN's."""
        return distance(self.snd_nxt, self.end) + (self.fin_wanted and not self.fin_sent)

    @property
    def header_size(self) -> int:
        """Of a packet with data, with its usual options."""
        return HEADERS[self.path.is_ipv6] + (STAMPS_SIZE if self.terms.stamps else 0)

    @property
    def over(self) -> bool:
        """In no table any more."""
        return self.state is CLOSE

    @property
    def uses_cwnd(self) -> bool:
        """It may grow: it is full, or, in slow start, half of it is (tcp_is_cwnd_limited)."""
        slow = self.cwnd < self.ssthresh
        return self.limited or (slow and self.cwnd < 2 * self.most_flying)

    def feed(self, given: Input) -> None:
        """Follow the table of states; raises IllegalInput."""
        self.state = after(self.state, given)

    def note_repeated(self, low: Seq, high: Seq) -> None:
        """Say with the next segment that this came again (D-SACK, RFC 2883; tcp_dsack_extend)."""
        if not self.terms.sack:
            return
        if self.repeated is None:
            self.repeated = (low, high)
            return
        start, end = self.repeated
        if not before(end, low) and not before(high, start):
            self.repeated = (low if before(low, start) else start, later(end, high))

    def put_early(self, seq: Seq, data: bytes, *, fin: bool = False) -> None:
        """Keep what is not its turn yet, cut to what is not held already; a FIN as one byte more.

        Within the window each byte is held once, in ``MOST_EARLY`` pieces: what is more is dropped,
        as if it had been lost on the way.  The peer is told of the range that it now belongs to,
        and first of what of it was held before (tcp_data_queue_ofo).
        """
        if not self.early:
            self.origin = self.rcv_nxt  # so that distances stay small, however long it lives
        if fin:
            after_data = add(seq, len(data))
            if self.fin_at is None or before(after_data, self.fin_at):
                self.fin_at = after_data
            data += b"\0"
        at = distance(self.origin, seq)
        end = at + len(data)
        known = self._held(at, end)
        self._keep(at, data)
        if known is not None:
            self.note_repeated(add(self.origin, known[0]), add(self.origin, known[1]))
        if self._held(at, end) == (at, end):
            self._note_range(at, end)

    def _note_range(self, low: int, high: int) -> None:
        """It comes first, with all that it touches; of more than four the oldest is forgotten
        (tcp_sack_new_ofo_skb).
        """
        rest: list[tuple[int, int]] = []
        for start, end in self.ranges:
            if start <= high and low <= end:
                low, high = min(low, start), max(high, end)
            else:
                rest.append((start, end))
        self.ranges = ((low, high), *rest)[:_MOST_RANGES]

    def _held(self, low: int, high: int) -> tuple[int, int] | None:
        """The first range between the two that is held, pieces that touch as one."""
        found: tuple[int, int] | None = None
        for at, data in self.early:
            start, end = max(low, at), min(high, at + len(data))
            if start < end and (found is None or found[1] == start):
                found = (found[0] if found else start, end)
        return found

    def _keep(self, at: int, data: bytes) -> None:
        place = bisect_left(self.early, at, key=_offset)
        if place:
            start, held = self.early[place - 1]
            known = max(0, start + len(held) - at)
            at, data = at + known, data[known:]
        while data and len(self.early) < MOST_EARLY:
            following = self.early[place][0] if place < len(self.early) else None
            room = len(data) if following is None else max(0, min(len(data), following - at))
            if room:
                self.early.insert(place, (at, data[:room]))
                place += 1
            if following is None or room == len(data):
                return
            skip = following + len(self.early[place][1]) - at
            at, data = at + skip, data[skip:]
            place += 1

    def join_early(self) -> None:
        """What was early and is due now is read after the rest, up to the peer's FIN.

        Where the first of it overlaps what has come now, the peer is told (tcp_ofo_queue).
        """
        if not self.early:
            return
        high = distance(self.origin, self.rcv_nxt)
        first = self._held(0, high)
        if first is not None:
            self.note_repeated(add(self.origin, first[0]), add(self.origin, first[1]))
        while self.early and self.rcv_nxt != self.fin_at:
            at, data = self.early[0]
            gap = at - distance(self.origin, self.rcv_nxt)
            if gap > 0:
                break
            self.early.pop(0)
            if len(data) + gap > 0:
                fresh = data[-gap:] if gap else data
                if self.fin_at is not None and before(self.rcv_nxt, self.fin_at):
                    fresh = fresh[: distance(self.rcv_nxt, self.fin_at)]
                self.incoming += fresh
                if self.buffer is not None:
                    self.buffer.queue(len(fresh), self.header_size + len(fresh))
                self.rcv_nxt = add(self.rcv_nxt, len(fresh))
        due = distance(self.origin, self.rcv_nxt)
        self.ranges = tuple(one for one in self.ranges if one[0] > due) if self.early else ()

    def blocks(self) -> tuple[tuple[int, int], ...]:
        """The ranges of what was early, the latest first, as many as an ACK has room for."""
        return tuple(
            (add(self.origin, low), add(self.origin, high))
            for low, high in self.ranges[: self._most_blocks]
        )

    @property
    def _most_blocks(self) -> int:
        return 3 if self.terms.stamps else 4
