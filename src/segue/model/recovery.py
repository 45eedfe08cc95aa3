"""What was lost, and what is sent again: SACK and RACK (RFC 8985), as far as cwnd allows (PRR,
RFC 6937); after a timeout all that is not known to have arrived is lost.

Stands for tcp_fastretrans_alert, tcp_recovery.c and tcp_cwnd_reduction.  Without SACK each
duplicate ACK stands for a segment that has arrived (RFC 6582).  Nothing is undone: what was taken
for lost wrongly stays so.
"""

from __future__ import annotations

from math import inf

from segue.model import output
from segue.model.connection import Connection, Flight
from segue.model.durations import PROBE_MIN
from segue.model.net import Net
from segue.model.states import Congestion
from segue.wire.seq import Seq, before, distance


def sacked(net: Net, connection: Connection, blocks: tuple[tuple[int, int], ...]) -> int:
    """Note what the peer tells of, and how many segments are new in that; a block of what it has
    acknowledged tells of a repetition, and not of an arrival.
    """
    found, low_seq = 0, connection.snd_nxt
    for low, high in blocks:
        if before(Seq(low), connection.snd_una) or before(connection.snd_nxt, Seq(high)):
            continue
        for one in connection.flying:
            inside = not before(one.start, Seq(low)) and not before(Seq(high), one.end)
            if inside and not one.sacked:
                late = not one.again and before(one.start, highest(connection))
                if late and before(one.start, low_seq):
                    low_seq = one.start
                one.sacked, one.lost = True, False
                found += 1
                arrived(net, connection, one)
    connection.delivered += found
    note_order(connection, low_seq, highest(connection))
    return found


def highest(connection: Connection) -> Seq:
    """The end of what has arrived furthest on (tcp_highest_sack_seq)."""
    for one in reversed(connection.flying):
        if one.sacked:
            return one.end
    return connection.snd_una


def note_order(connection: Connection, low: Seq, high: Seq) -> None:
    """What begins at ``low`` has arrived after what ends at ``high``, and was not sent again: the
    way changes the order (tcp_check_sack_reordering).
    """
    if not before(low, high):
        return
    size = connection.segment_size
    connection.reordered = True
    connection.reordering = max(connection.reordering, -(-distance(low, high) // size))


def arrived(net: Net, connection: Connection, one: Flight) -> None:
    """The newest segment that is known to have arrived tells how old a lost one is."""
    took = net.now - one.sent_at
    if one.repeated and took < connection.least_rtt:
        return  # it was the first that arrived, and not the second
    connection.rack_rtt = took
    newest = (one.sent_at, one.end)
    at, end = connection.rack_newest
    if newest[0] > at or (newest[0] == at and before(end, newest[1])):
        connection.rack_newest = newest


def judge(
    net: Net, connection: Connection, gone: int, told: int, *, advanced: bool, duplicate: bool
) -> None:
    """After an ACK: ``gone`` segments are acknowledged, ``told`` more have arrived."""
    was_lost = _lost(connection)
    if not connection.terms.sack:
        gone, told = _presume(connection, gone, advanced=advanced, duplicate=duplicate)
    over = not before(connection.snd_una, connection.high_seq)
    state = connection.congestion
    if over and state is Congestion.LOSS:
        connection.congestion = Congestion.OPEN
    elif over and state in output.REDUCED:
        connection.cwnd = connection.ssthresh
        connection.congestion = Congestion.OPEN
    doubtful = told or duplicate or connection.congestion is not Congestion.OPEN
    fresh = False
    if doubtful:
        fresh = connection.congestion is Congestion.LOSS and _tries_new(
            connection, advanced=advanced, told=bool(told) or duplicate
        )
        if not fresh:
            _identify(net, connection, advanced=advanced)
        _settle_state(connection)
    if connection.congestion in output.REDUCED:
        _reduce(connection, gone + told, _lost(connection) - was_lost, advanced=advanced)
    elif gone:
        output.grow(connection, gone + told)
    if doubtful and not fresh:
        repeat(net, connection)


def overtaken(net: Net, connection: Connection, blocks: tuple[tuple[int, int], ...]) -> None:
    """An ACK that is old by its number tells of arrivals all the same (old_ack in tcp_ack)."""
    if not sacked(net, connection, blocks):
        return
    _identify(net, connection, advanced=False)
    _settle_state(connection)
    repeat(net, connection)


def _settle_state(connection: Connection) -> None:
    """Without a loss the order is what it is; with one it is repaired."""
    if connection.congestion not in {Congestion.OPEN, Congestion.DISORDER}:
        return
    if _lost(connection):
        _enter(connection)
        return
    some = connection.presumed or any(one.sacked for one in connection.flying)
    connection.congestion = Congestion.DISORDER if some else Congestion.OPEN


def _presume(
    connection: Connection, gone: int, *, advanced: bool, duplicate: bool
) -> tuple[int, int]:
    """Without SACK: a duplicate tells that something has arrived, and an ACK of more tells what.

    How many segments are news, by the one and by the other.
    """
    if advanced:
        fresh = max(gone - connection.presumed, min(gone, 1))
        connection.delivered += fresh - gone
        held = connection.congestion is Congestion.RECOVERY
        connection.presumed = max(0, connection.presumed - max(0, gone - 1)) if held else 0
        return fresh, 0
    if not duplicate or connection.presumed >= len(connection.flying) - 1:
        return 0, 0
    connection.presumed += 1
    connection.delivered += 1
    return 0, 1


def _tries_new(connection: Connection, *, advanced: bool, told: bool) -> bool:
    """After a timeout new data shows whether anything was lost at all (F-RTO, RFC 5682)."""
    if not connection.doubts_timeout:
        return False
    if before(connection.high_seq, connection.snd_nxt):
        if told:
            connection.doubts_timeout = False
        return False
    if advanced:
        connection.high_seq = connection.snd_nxt
        room = connection.snd_wnd - ((connection.snd_nxt - connection.snd_una) & 0xFFFFFFFF)
        if before(connection.snd_nxt, connection.end) and room > 0:
            return True
        connection.doubts_timeout = False
    return False


def _identify(net: Net, connection: Connection, *, advanced: bool) -> None:
    """Mark what is lost (tcp_identify_packet_loss)."""
    if not connection.terms.sack:
        early = connection.congestion in {Congestion.OPEN, Congestion.DISORDER}
        many = early and connection.presumed >= connection.reordering
        partial = connection.congestion is Congestion.RECOVERY and advanced
        if (many or partial) and connection.flying:
            connection.flying[0].lost = True
            connection.flying[0].again = False
        return
    wait = _detect(net, connection)
    if wait:
        connection.reordering_at = net.now + wait + PROBE_MIN
        connection.retransmit_at = inf


def _detect(net: Net, connection: Connection) -> float:
    """What was sent before something that has arrived, and is older than a round trip, is lost; for
    how long to wait for the rest (tcp_rack_detect_loss).
    """
    settling = _settling(connection)
    newest_at, newest_end = connection.rack_newest
    longest = 0.0
    for one in connection.flying:
        if one.sacked or (one.lost and not one.again):
            continue
        later = newest_at > one.sent_at
        if not later and not (newest_at == one.sent_at and before(one.end, newest_end)):
            continue
        left = connection.rack_rtt + settling - (net.now - one.sent_at)
        if left <= 1e-9:
            one.lost, one.again = True, False
        else:
            longest = max(longest, left)
    return longest


def _settling(connection: Connection) -> float:
    """How long a segment may be late, where fewer than three that followed it have arrived."""
    if not connection.reordered:
        if connection.congestion in {Congestion.RECOVERY, Congestion.LOSS}:
            return 0.0
        if sum(one.sacked for one in connection.flying) >= connection.reordering:
            return 0.0
    return min(connection.least_rtt / 4, connection.srtt or 0.0)


def timer(net: Net, connection: Connection) -> None:
    """What is still late is lost (tcp_rack_reo_timeout)."""
    connection.reordering_at = inf
    before_it = output.in_flight(connection)
    _detect(net, connection)
    lost = before_it - output.in_flight(connection)
    if lost:
        if connection.congestion is not Congestion.RECOVERY:
            _enter(connection)
        _reduce(connection, 1, lost, advanced=False)
        repeat(net, connection)
    if connection.retransmit_at == inf:
        output.restart_timer(net, connection)


def _enter(connection: Connection) -> None:
    """The first loss halves the window (tcp_enter_recovery)."""
    if connection.congestion not in output.REDUCED:
        reduce_from_here(connection)
    connection.congestion = Congestion.RECOVERY


def reduce_from_here(connection: Connection) -> None:
    """Begin to make cwnd smaller, until all that is sent now is acknowledged."""
    connection.high_seq = connection.snd_nxt
    connection.prior_cwnd = connection.cwnd
    connection.prr_delivered = connection.prr_out = 0
    connection.ssthresh = max(connection.cwnd >> 1, 2)
    connection.sends_less = connection.terms.ecn


def told_of_congestion(connection: Connection) -> None:
    """The peer has seen a mark: send less, but not twice a round trip (tcp_enter_cwr)."""
    if connection.congestion in {Congestion.OPEN, Congestion.DISORDER}:
        reduce_from_here(connection)
        connection.congestion = Congestion.CWR


def _reduce(connection: Connection, told: int, lost: int, *, advanced: bool) -> None:
    """As much is sent as leads evenly to ssthresh, or back up to it (tcp_cwnd_reduction)."""
    if told <= 0 or not connection.prior_cwnd:
        return
    flying = output.in_flight(connection)
    delta = connection.ssthresh - flying
    connection.prr_delivered += told
    if delta < 0:
        share = connection.ssthresh * connection.prr_delivered + connection.prior_cwnd - 1
        more = share // connection.prior_cwnd - connection.prr_out
    else:
        more = max(connection.prr_delivered - connection.prr_out, told)
        if advanced and not lost:
            more += 1
        more = min(delta, more)
    connection.cwnd = flying + max(more, 0 if connection.prr_out else 1)


def repeat(net: Net, connection: Connection) -> None:
    """Send again what is lost, as far as cwnd goes (tcp_xmit_retransmit_queue)."""
    flying = output.in_flight(connection)
    for one in connection.flying:
        if flying >= connection.cwnd:
            return
        if one.lost and not one.again and not one.sacked:
            output.repeat(net, connection, one)
            flying += 1
            if connection.congestion in output.REDUCED:
                connection.prr_out += 1
            if connection.retransmit_at == inf and connection.reordering_at == inf:
                output.restart_timer(net, connection)


def timeout(connection: Connection) -> None:
    """All that is not known to have arrived is lost, and one segment may go (tcp_enter_loss)."""
    state = connection.congestion
    fresh = state in {Congestion.OPEN, Congestion.DISORDER}
    if fresh or not before(connection.snd_una, connection.high_seq):
        connection.ssthresh = max(connection.cwnd >> 1, 2)
    connection.presumed = 0
    for one in connection.flying:
        if not one.sacked:
            one.lost, one.again = True, False
    connection.cwnd = 1
    connection.high_seq = connection.snd_nxt
    connection.congestion = Congestion.LOSS
    connection.doubts_timeout = True
    connection.reordering_at = inf


def _lost(connection: Connection) -> int:
    return sum(one.lost for one in connection.flying)
