"""A connection: what both sides have sent, what the program has read, and when to look again.

Stands for ``struct tcp_sock``.  A record: what arrives is judged in segment_arrives.py, what is
sent is decided in output.py, and the clock is minded in retransmission.py.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING

from segue.model.arrival import Path
from segue.model.request import STAMPS_SIZE, Request, Terms
from segue.model.states import Input, State, after
from segue.wire.seq import Seq, add, before, distance

if TYPE_CHECKING:
    from segue.model.listener import Listener

INITIAL_WINDOW = 10  # segments (RFC 6928, TCP_INIT_CWND)
QUICK_ACKS = 16  # segments that are acknowledged at once (TCP_MAX_QUICKACKS)
# Pieces kept before their turn: five windows of full segments.  Linux bounds the memory instead
# (tcp_prune_ofo_queue), of which a piece of one byte takes most of a kilobyte: some 170 of them.
MOST_EARLY = 256
_offset: Callable[[tuple[int, bytes]], int] = itemgetter(0)


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
    # What came in.
    incoming: bytearray = field(default_factory=bytearray)
    early: list[tuple[int, bytes]] = field(default_factory=list)  # by distance from ``origin``
    origin: Seq = field(default=Seq(0))
    latest: Seq = field(default=Seq(0))  # where the last early data began
    offered_edge: Seq = field(default=Seq(0))  # the right edge of the window we offered
    sent_ack: Seq = field(default=Seq(0))
    fin_at: Seq | None = None  # where the peer's first FIN is, if it came early
    peer_ended: bool = False  # the peer's FIN has arrived in its turn
    quick: int = QUICK_ACKS
    interactive: bool = False  # the program answers what it reads: ACKs may wait for the answer
    heard_at: float = -inf  # when data last arrived
    # What goes out.
    outgoing: bytearray = field(default_factory=bytearray)
    fin_wanted: bool = False
    fin_sent: bool = False
    tail: Seq = field(default=Seq(0))  # where the last segment that was new began
    cwnd: int = INITIAL_WINDOW
    ssthresh: int = 1 << 30
    credit: int = 0  # towards one more segment in cwnd
    acked: int = 0  # bytes, since the beginning
    flying: deque[Seq] = field(default_factory=deque)  # where each segment in flight ends
    probed: bool = False  # the tail was sent again, and nothing has come of it yet
    recover: Seq | None = None  # until that is acknowledged no second loss is assumed
    duplicates: int = 0
    # Time.
    srtt: float | None = None
    rttvar: float = 0.0
    rto: float = 1.0
    timed: tuple[Seq, float] | None = None  # a number, and when it was sent for the first time
    backoff: int = 0
    retransmit_at: float = inf
    ack_at: float = inf
    end_at: float = inf  # of TIME_WAIT or of an orphan's FIN_WAIT2
    answered_at: float = -inf
    # The program.
    orphan: bool = False
    waiting: bool = False  # it is counted among those that only wait
    error: int = 0  # the errno of the next call
    receive_shut: bool = False
    due: float = inf
    wake: float = inf

    @property
    def segment_size(self) -> int:
        """The most data that fits into a segment beside its options."""
        return max(1, self.terms.mss - (STAMPS_SIZE if self.terms.stamps else 0))

    @property
    def end(self) -> Seq:
        """The number after all data that the program has written."""
        return add(self.base, len(self.outgoing))

    @property
    def space(self) -> int:
        """How much more we are ready to receive."""
        return max(0, self.terms.window - len(self.incoming))

    @property
    def over(self) -> bool:
        """In no table any more."""
        return self.state is State.CLOSE

    def feed(self, given: Input) -> None:
        """Follow the table of states; raises IllegalInput."""
        self.state = after(self.state, given)

    def window(self) -> int:
        """The window for the next segment, as the header has it; the right edge never goes back."""
        held = distance(self.rcv_nxt, self.offered_edge)
        scale = self.terms.scale_in or 0
        space = self.space
        value = min(-(-held >> scale) if held > space else space >> scale, 0xFFFF)
        edge = add(self.rcv_nxt, value << scale)
        if before(self.offered_edge, edge):
            self.offered_edge = edge
        self.sent_ack = self.rcv_nxt
        return value

    def note_early(self, seq: Seq) -> None:
        """Something came before its turn: the next ACK begins with it."""
        if not self.early:
            self.origin = self.rcv_nxt  # so that distances stay small, however long it lives
        self.latest = seq

    @property
    def gaps(self) -> bool:
        """Something waits for what should have come before it."""
        return bool(self.early)

    def put_early(self, seq: Seq, data: bytes, *, fin: bool = False) -> tuple[Seq, Seq] | None:
        """Keep what is not its turn yet, cut to what is not held already; a FIN as one byte more.

        Within the window each byte is held once, in ``MOST_EARLY`` pieces: what is more is dropped,
        as if it had been lost on the way.  Returns the first range of it that was held before, for
        the peer to be told (tcp_data_queue_ofo).
        """
        if fin:
            end = add(seq, len(data))
            if self.fin_at is None or before(end, self.fin_at):
                self.fin_at = end
            data += b"\0"
        at = distance(self.origin, seq)
        known = self._held(at, at + len(data))
        self._keep(at, data)
        return known and (add(self.origin, known[0]), add(self.origin, known[1]))

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
        """What was early and is due now is read after the rest, up to the peer's FIN."""
        while self.early and self.rcv_nxt != self.fin_at:
            at, data = self.early[0]
            gap = at - distance(self.origin, self.rcv_nxt)
            if gap > 0:
                return
            self.early.pop(0)
            if len(data) + gap > 0:
                fresh = data[-gap:] if gap else data
                if self.fin_at is not None and before(self.rcv_nxt, self.fin_at):
                    fresh = fresh[: distance(self.rcv_nxt, self.fin_at)]
                self.incoming += fresh
                self.rcv_nxt = add(self.rcv_nxt, len(fresh))

    def blocks(self) -> tuple[tuple[int, int], ...]:
        """The ranges of what was early, the latest first, at most four (RFC 2018, 4)."""
        ranges: list[list[int]] = []
        for at, data in self.early:
            if ranges and ranges[-1][1] == at:
                ranges[-1][1] = at + len(data)
            else:
                ranges.append([at, at + len(data)])
        last = distance(self.origin, self.latest)
        ranges.sort(key=lambda one: not one[0] <= last < one[1])
        most = 3 if self.terms.stamps else 4
        return tuple((add(self.origin, low), add(self.origin, high)) for low, high in ranges[:most])
