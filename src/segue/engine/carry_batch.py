"""One connection is taken out of its owner's hands, in two parts.

What can be done while the owner runs is done by ``prepare``, the rest by ``take`` while it is
stopped.  In between everything may change, so ``take`` looks again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from segue.engine import carry_classifier, carry_facts, carry_notes
from segue.engine.carry_facts import Pair
from segue.engine.carry_programs import Look, Programs
from segue.engine.carry_wish import Wish
from segue.errors import KernelError
from segue.linux import socket_filter, sockopt, tcp_queue, tcp_repair
from segue.linux.raw_ip import RawIp
from segue.observe import carrying, request_head
from segue.observe.carrying import Held, Host, Note, Refusal, Target

HOLD_NS = 100_000_000
# What must be left of it when the connection is taken: the rest takes microseconds.
_SPARE_NS = 10_000_000
ENTRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A connection that nothing speaks against so far."""

    wish: Wish
    pair: Pair
    cookie: bytes
    where: bytes  # the key of its entry
    traffic_class: int
    inherited: bool  # our filter is there already
    held: Held  # as it was, and with it the packet for a connection that is still so
    packet: bytes
    echo: int  # as in ``Pair.packet``
    turning: bool  # it was not between two requests


@dataclass(frozen=True, slots=True)
class Taken:
    """A connection that no process has, and the packet that makes it again.

    A stamp would be too old by then: what the connection measured by it would be too long.
    """

    wish: Wish
    pair: Pair
    cookie: bytes
    where: bytes
    packet: Callable[[], bytes]  # without a stamp
    unread: int
    limit: float  # of its entry, by time.monotonic
    drops: int | None  # connections that found no room in a queue, before; None: not known
    errno: int = 0  # with which the packet was refused


@dataclass(frozen=True, slots=True)
class Scene:
    """What counts for all connections of a batch."""

    host: Host
    targets: Sequence[Target]
    programs: Programs
    raw: RawIp
    room: int  # how many unread bytes may go along
    drops: int | None = None  # as in ``Taken``

    def prepare(self, wish: Wish) -> Candidate | Refusal:
        """Before the owner is stopped.  Raises KernelError."""
        connection = wish.connection
        why = carrying.before(self.host, carry_facts.outside(connection), self.targets)
        if why is not None:
            return why
        pair = Pair.of(connection)
        cookie = sockopt.cookie(connection).to_bytes(8, "little")
        look = self.programs.look(pair)
        if look is None:
            return Refusal.NOT_FOUND
        # Whose segment came while no process has the connection would be reset.
        if not self.programs.sees(look.held.interface):
            return Refusal.UNSEEN
        why, inherited = self._filter(wish, look)
        why = why or self._judged(wish, pair, look.held, look.note)
        turning = wish.turning and why in carrying.TURNING
        if why is not None and not turning:
            return why
        traffic_class = tcp_queue.traffic_class(connection)
        clock, round_trip = tcp_repair.clock(connection), tcp_queue.round_trip(connection)
        echo = carry_facts.echo(clock, round_trip)
        return Candidate(
            wish,
            pair,
            cookie,
            carry_classifier.key(pair.addresses, pair.ports),
            traffic_class,
            inherited,
            look.held,
            pair.packet(look.held, b"", traffic_class, echo),
            echo,
            turning,
        )

    def _filter(self, wish: Wish, look: Look) -> tuple[Refusal | None, bool]:
        """Whether it can be held, and whether our filter is there to stay."""
        if look.ours:
            return None, True
        if look.held.filter_id and not self.programs.earlier(look.held.filter_id):
            return Refusal.FILTERED, False
        if wish.grace is None:
            return None, False
        # From here on it is noted what comes.
        return self.programs.hold(wish.connection), True

    def _judged(self, wish: Wish, pair: Pair, held: Held, note: Note | None) -> Refusal | None:
        """By what the kernel has of it, and what was noted."""
        if held.state == carrying.LISTEN:
            return Refusal.NOT_FOUND
        why = carrying.refusal(self.host, held, pair.version, self.room, note)
        if why is None and held.unread and not wish.unread:
            return Refusal.WAITING
        if why is None and wish.grace is not None:
            quiet = tcp_queue.quiet(wish.connection)
            why = carrying.by_notes(held, note, quiet, wish.grace)
        return why

    def turned(self, one: Candidate) -> Refusal | None:
        """Why it is not between two requests now, without a touch.  Raises KernelError."""
        look = self.programs.look(one.pair)
        if look is None:
            return Refusal.NOT_FOUND
        return self._judged(one.wish, one.pair, look.held, look.note if look.ours else None)

    def take(self, one: Candidate) -> Taken | Refusal:
        """Hold it, and take it out of its owner's hands; or let it go again, and why.

        The owner is stopped.  The hold of what is taken stays in its map.  Raises KernelError, and
        it is then as it was.
        """
        if one.wish.refusal is not None:
            why = one.wish.refusal()
            if why is not None:
                return why
        until = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + HOLD_NS
        self.programs.until.update(one.cookie, until.to_bytes(8, "little"))
        found: Refusal | Taken | None = None
        try:
            if not one.inherited:
                why = self.programs.hold(one.wish.connection)
                if why is not None:
                    return why
            tcp_repair.catch_up(one.wish.connection)
            found = self._take(one, until)
        finally:
            if not isinstance(found, Taken):
                if not one.inherited:
                    with suppress(KernelError):  # locked: it was not attached
                        socket_filter.detach(one.wish.connection)
                self.programs.until.delete(one.cookie)
        return found

    def _take(self, one: Candidate, until: int) -> Taken | Refusal:
        """From the look to the disconnect; or the connection as it was, and why."""
        connection = one.wish.connection
        look = self.programs.look(one.pair)
        if look is None:
            return Refusal.NOT_FOUND
        if not look.ours:
            return Refusal.FILTERED
        held = look.held
        why = self._judged(one.wish, one.pair, held, look.note)
        if why is not None:
            return why
        payload = tcp_queue.peek(connection, held.unread)
        why = carrying.with_unread(payload, held.unread)
        if why is not None:
            return why
        packet = one.packet
        if payload or held != one.held:
            packet = one.pair.packet(held, payload, one.traffic_class, one.echo)
        # In this order, and one more: a millisecond may end here, or between the classifier and the
        # kernel's function.  Then its clock is a millisecond ahead, and never behind.
        base = carry_classifier.clock()
        ahead = tcp_repair.clock(connection) + 1 - base
        self.programs.entries.update(one.where, entry(held, ahead % (1 << 32), payload))
        limit = time.monotonic() + ENTRY_SECONDS
        taken = False
        try:
            if time.clock_gettime_ns(time.CLOCK_MONOTONIC) > until - _SPARE_NS:
                return Refusal.LATE
            tcp_repair.enter(connection)
            try:
                # A reset passes the hold until here, and everything passes one that has ended, as
                # where this process has stood still since.  From here on the mode holds.
                received = tcp_queue.received(connection)
                if received is None:
                    return Refusal.NOT_ESTABLISHED
                if received != held.bytes_received:
                    return Refusal.LATE
                tcp_repair.disconnect(connection)
                taken = True
            finally:
                if not taken:
                    tcp_repair.leave(connection)
        finally:
            if not taken:
                self.programs.entries.delete(one.where)
        refused = inject(self.raw, packet, one.pair.here)
        # Also where that was refused: nobody has the connection any more.
        tcp_repair.leave(connection)
        tcp_repair.finish(connection)
        return Taken(
            one.wish,
            one.pair,
            one.cookie,
            one.where,
            partial(one.pair.packet, held, payload, one.traffic_class),
            len(payload),
            limit,
            self.drops,
            refused,
        )


def _note(held: Held, payload: bytes) -> Note:
    """Of a request that goes along: the filter does not see it."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    head = request_head.read(payload)
    end = (held.copied_seq + head.size) % (1 << 32)
    return Note(now, held.write_seq, held.copied_seq, end, head.seen)


def inject(raw: RawIp, packet: bytes, target: str) -> int:
    """A segment of the client once more; the error number if it may not be sent."""
    try:
        raw.send(packet, target)
    except KernelError as error:
        return error.errno or 0
    return 0


def entry(held: Held, ahead: int, payload: bytes = b"") -> bytes:
    """The classifier's, of a connection as it is now, and the request that goes along.

    ``ahead`` is how far its timestamps are ahead of ``carry_classifier.clock``.
    """
    return carry_classifier.Entry(
        seq=held.copied_seq,
        ack=held.snd_nxt,
        peer_clock=held.ts_recent,
        own_clock=ahead,
        mss=held.mss_clamp,
        receive_scale=held.rcv_wscale,
        send_scale=held.snd_wscale,
        scaling=bool(held.wscale_ok),
        sack=bool(held.sack_ok),
        timestamps=bool(held.tstamp_ok),
        ecn=held.ecn,
        until=time.clock_gettime_ns(time.CLOCK_MONOTONIC) + int(ENTRY_SECONDS * 1e9),
        note=carry_notes.encode(_note(held, payload)) if payload else carry_classifier.NO_NOTE,
    ).encode()
