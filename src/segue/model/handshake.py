"""A segment comes for a half-open request, or its timer fires.

Stands for tcp_check_req and reqsk_timer_handler.
"""

from __future__ import annotations

from math import inf

from segue.model import cookies, first_window, migration, output, segment_arrives, syn
from segue.model.arrival import Arrival
from segue.model.connection import Connection
from segue.model.durations import (
    COOKIE_COUNTS,
    COOKIE_PERIOD,
    OUT_OF_WINDOW_PAUSE,
    backed_off,
)
from segue.model.events import Acceptable, Fired, Occasion, Refusal, Refused, Timer
from segue.model.listener import Listener
from segue.model.migration import Destination
from segue.model.net import Chance, Net
from segue.model.request import Request, Terms
from segue.model.states import ESTABLISHED
from segue.wire.seq import add, before
from segue.wire.tcp import ACK, RST, SYN

_LEAST_RETRIES = 2  # a crowded listener does not go below (reqsk_timer_handler)
_CROWD = 8
_MASK = 0xFFFFFFFF


def arrived(net: Net, request: Request, arrival: Arrival) -> bool:
    """False when there is no such request any more, and the segment is the listeners' business."""
    found = migration.at_ack(net, request, arrival)
    if found is None:
        return False
    listener, _ = found
    flags = arrival.flags
    stamps = arrival.options.stamps if request.terms.stamps else None
    stale = first_window.is_stale(request, arrival)
    # The number of our next byte, and of the peer's.
    seq, first = add(request.iss, 1), add(request.irs, 1)
    if arrival.seq == request.irs and flags & (SYN | ACK | RST) == SYN and not stale:
        _answer_again(net, request)
        return True
    if flags & (ACK | RST) == ACK and arrival.ack != seq:
        # It is the listener's business, as if there were no request; which yet is in the way of
        # what a cookie would make.
        if not with_cookie(net, listener, arrival, net.chance(arrival.flow), is_taken=True):
            net.reset(arrival)
        return True
    within = first_window.is_within(request, arrival, first)
    if stale or _alien_echo(request, stamps) or not within:
        if not flags & RST:
            first_window.answer(net, request, arrival, seq, first)
        return True
    if arrival.seq == request.irs:
        flags &= ~SYN  # it is before the window and no concern of ours
    if flags & RST and arrival.seq != first:
        first_window.challenge(net, request, arrival, seq, first)
        return True
    if flags & (RST | SYN):
        if not flags & RST:
            net.reset(arrival)
        net.counts["EmbryonicRsts"] += 1
        migration.drop(net, request, listener)
        return True
    if not flags & ACK:
        return True
    if request.timeouts < listener.defer_accept and arrival.end == first:
        request.acked = True
        net.counts["TCPDeferAcceptDrop"] += 1
        return True
    _finish(net, request, found, arrival)
    return True


def _alien_echo(request: Request, stamps: tuple[int, int] | None) -> bool:
    """It echoes a stamp that we did not send (tsecr_reject)."""
    if stamps is None or not stamps[1] or request.first_stamp is None:
        return False
    span = (request.last_stamp - request.first_stamp) & 0xFFFFFFFF
    return (stamps[1] - request.first_stamp) & 0xFFFFFFFF > span


def _answer_again(net: Net, request: Request) -> None:
    """The SYN came again: so does the answer, and the timer begins anew."""
    if net.now - request.answered_at < OUT_OF_WINDOW_PAUSE:
        return
    request.answered_at = net.now
    request.retransmitted = True
    output.syn_ack(net, request)
    net.counts["TCPSynRetrans"] += 1
    net.timers.set(request, net.after(backed_off(request.timeouts)))


def _finish(net: Net, request: Request, found: Destination, arrival: Arrival) -> None:
    """The final ACK, and what came with it, goes to a child of the listener."""
    listener, _ = found
    if refused_when_full(net, listener):
        if listener is not request.listener:
            migration.failed(net)
        if net.sysctls.tcp_abort_on_overflow:
            net.reset(arrival)
            net.counts["EmbryonicRsts"] += 1
            migration.drop(net, request, listener)
        else:
            request.acked = True  # the next SYN-ACK gives it another try
        return
    migration.joined(net, request, found)
    adopt(net, request, listener, arrival)


def refused_when_full(net: Net, listener: Listener) -> bool:
    """Its accept queue has no room for a child: that is counted, and the segment dropped."""
    if not listener.full:
        return False
    net.events.append(Refused(listener.cookie, Refusal.QUEUE_IS_FULL))
    net.counts["ListenOverflows"] += 1
    net.counts["ListenDrops"] += 1
    return True


def adopt(net: Net, request: Request, listener: Listener, arrival: Arrival) -> Connection:
    """The child of a request goes into the listener's queue, with what the segment has for it."""
    window = arrival.window << request.terms.scale_out
    child = syn.connection(request, listener, ESTABLISHED, window, net.now)
    net.flows[child.flow] = child
    child.snd_wl1 = arrival.seq
    child.delivered = 1
    stamps = arrival.options.stamps if request.terms.stamps else None
    # Only now: a request that stays half-open does not remember the stamp of a segment.
    if stamps is not None and not before(child.rcv_nxt, arrival.seq):
        child.ts_recent = stamps[0]
    if request.sent_at and not request.retransmitted and not request.timeouts:
        output.measure(child, net.now - request.sent_at)
    elif stamps is not None:
        output.measure_echo(net, child, stamps[1])
    if child.keep_at != inf:
        output.rearm(net, child)
    listener.queue.append(child)
    net.events.append(Acceptable(listener.cookie))
    if arrival.length or arrival.seq != child.rcv_nxt:
        segment_arrives.arrived(net, child, arrival)
    return child


def timer(net: Net, request: Request) -> None:
    """Repeat the SYN-ACK, by another listener if its own is gone; or drop the request."""
    net.events.append(Fired(request.cookie, Timer.SYN_ACK))
    found = migration.at_timer(net, request)
    if found is None:
        migration.drop(net, request)
        return
    listener, _ = found
    net.counts["TCPTimeouts"] += 1
    if _expired(net, request, listener):
        if listener is not request.listener:
            migration.failed(net)
        migration.drop(net, request)
        return
    waits_for_data = request.acked and request.timeouts < listener.defer_accept - 1
    if not waits_for_data:
        output.syn_ack(net, request)
        request.retransmitted = True
        net.counts["TCPSynRetrans"] += 1
    migration.settle(net, request, found, Occasion.TIMER)
    if not request.timeouts:
        listener.young -= 1
    request.timeouts += 1
    net.timers.set(request, net.after(backed_off(request.timeouts)))


def _expired(net: Net, request: Request, listener: Listener) -> bool:
    """It has been told often enough (syn_ack_recalc)."""
    retries = listener.options.get("TCP_SYNCNT") or net.sysctls.tcp_synack_retries
    if listener.requests << 1 > max(_CROWD, listener.backlog):
        # In a crowd the old ones make way for the young.
        young = listener.young << 1
        while retries > _LEAST_RETRIES and listener.requests >= young:
            retries -= 1
            young <<= 1
    if request.timeouts < retries:
        return False
    if listener.defer_accept and request.acked:
        return request.timeouts >= listener.defer_accept
    return True


def with_cookie(
    net: Net, listener: Listener, arrival: Arrival, chance: Chance, *, is_taken: bool = False
) -> bool:
    """An ACK without a request may echo a SYN cookie; True when it did (cookie_v4_check).

    Where the flow ``is_taken`` by a request, what it makes finds no place, and is dropped without a
    word (inet_ehash_nolisten).
    """
    group = listener.group
    if not net.sysctls.tcp_syncookies or group is None or arrival.flags & (RST | SYN):
        return False
    if net.now - group.overflowed_at > COOKIE_COUNTS * COOKIE_PERIOD:
        return False
    path, irs, iss = arrival.path, add(arrival.seq, -1), add(arrival.ack, -1)
    mss = cookies.mss_in(net.secret, net.now, arrival.flow, irs, iss, ipv6=path.is_ipv6)
    if not mss:
        net.counts["SyncookiesFailed"] += 1
        return False
    net.counts["SyncookiesRecv"] += 1
    stamps = arrival.options.stamps
    echo = stamps[1] - chance.stamp_offset & _MASK if stamps and stamps[1] else None
    said = cookies.options_in(echo, stamps, mss)
    if refused_when_full(net, listener):
        return True
    if is_taken:
        return True
    request = Request(
        cookie=next(net.cookies),
        path=path,
        flow=arrival.flow,
        hash=chance.hash,
        listener=listener,
        irs=irs,
        iss=iss,
        terms=Terms.of(
            said, ipv6=path.is_ipv6, mtu=net.mtu, options=listener.options, sysctls=net.sysctls
        ),
        ts_recent=stamps[0] if stamps else 0,
        ts_offset=chance.stamp_offset,
        due=inf,
    )
    # When the SYN-ACK was sent is not known, but its stamp comes back, though with options in its
    # low bits, so that it seems older (tcp_ack_update_rtt).
    adopt(net, request, listener, arrival)
    return True
