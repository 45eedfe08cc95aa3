"""What was lost, and what is sent again: SACK and RACK (RFC 8985), as far as cwnd allows (PRR,
RFC 6937); after a timeout all that is not known to have arrived, or to be on its way, is lost.

Stands for tcp_fastretrans_alert, tcp_recovery.c and tcp_cwnd_reduction.  Without SACK each
duplicate ACK stands for a segment that has arrived (RFC 6582).  undo.py knows what was taken for
lost wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from segue.model import bursts, output, undo
from segue.model.connection import NO_THRESHOLD, Connection, Flight
from segue.model.durations import PROBE_MIN
from segue.model.net import Net
from segue.model.states import OPEN, Congestion
from segue.wire.seq import Seq, before, distance

_USUAL_ORDER = 3  # tcp_reordering
_MOST_DISORDER = 300  # tcp_max_reordering
_MOST_STEPS = 255
_FORGETFUL = 0.01  # until what a peer has told of and forgotten is sent again


@dataclass(slots=True)
class News:
    """What an ACK tells; ``una`` is what was acknowledged before it.

    ``gone`` segments are acknowledged that it had not told of, and ``told`` have arrived besides.
    """

    una: Seq
    advanced: bool = False
    duplicate: bool = False
    marked: bool = False  # the way is congested (ECE)
    gone: int = 0
    told: int = 0
    twice: int = 0  # segments that came twice
    probe_twice: bool = False
    original: bool = False  # some were sent before a timeout, and never again
    # When the first of these was sent that never was again: by the ACK, out of its order; the last.
    sent_at: float | None = None
    sacked_at: float | None = None
    last_at: float = 0.0
    lost_again: bool = False  # what was sent again


def sacked(
    net: Net, connection: Connection, blocks: tuple[tuple[int, int], ...], ack: Seq, news: News
) -> None:
    """Note what the peer tells of; a block of what it has acknowledged, or of what the next one
    tells of, is of a repetition (D-SACK, RFC 2883).
    """
    twice = undo.came_twice(connection, blocks, ack, news.una)
    news.twice = twice
    if twice:
        news.probe_twice = twice == 1 and connection.probe_end == blocks[0][1]
        if connection.reordered and not news.probe_twice:
            connection.told_twice = True
    low_seq = connection.snd_nxt
    # From the lowest on, in whatever order they are told (tcp_sacktag_write_queue).
    for number, (low, high) in sorted(
        enumerate(blocks), key=lambda one: distance(news.una, Seq(one[1][0]))
    ):
        # One that begins with what is not acknowledged makes no sense (tcp_is_sackblock_valid).
        if not before(connection.snd_una, Seq(low)) or before(connection.snd_nxt, Seq(high)):
            continue
        last: Flight | None = None
        for one in connection.flying:
            before_it, last = last, one
            if before(one.start, Seq(low)) or before(Seq(high), one.end):
                continue
            again = twice and not number and one.repeated
            if again:
                undo.note_twice(connection, 1, one.end)
                if one.sacked and before(one.start, low_seq):
                    low_seq = one.start
            if not one.sacked:
                if not one.repeated and before(one.start, highest(connection)):
                    low_seq = one.start if before(one.start, low_seq) else low_seq
                _note_sacked(net, connection, one, news)
                if before_it is not None:
                    before_it.take_in(one)
            if again:
                one.again = False
    connection.delivered += news.told + twice
    note_order(connection, low_seq, highest(connection))


def _note_sacked(net: Net, connection: Connection, one: Flight, news: News) -> None:
    arrived(net, connection, one)
    if not one.repeated:
        news.original = news.original or not before(connection.high_seq, one.end)
        if news.sacked_at is None:
            news.sacked_at = one.sent_at
        news.last_at = one.sent_at
    if one.lost:
        one.lost = one.again = False
    one.sacked = True
    news.told += 1


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
    by = min(-(-distance(low, high) // size), _MOST_DISORDER)
    connection.reordering = max(connection.reordering, by)


def arrived(net: Net, connection: Connection, one: Flight) -> None:
    """The newest segment that is known to have arrived tells how old a lost one is."""
    took = net.now - one.sent_at
    if one.repeated and took < connection.least_rtt:
        return  # it was the first that arrived, and not the second
    connection.rack_news = True
    connection.rack_rtt = took
    newest = (one.sent_at, one.end)
    at, end = connection.rack_newest
    if newest[0] > at or (newest[0] == at and before(end, newest[1])):
        connection.rack_newest = newest


def judge(net: Net, connection: Connection, news: News) -> None:
    """After an ACK that is unusual, or that comes while something is (tcp_ack)."""
    _settle(net, connection)
    if connection.probe_end is not None:
        _answers_tail_probe(connection, news)
    was_lost = 0 if connection.congestion is OPEN else _lost(connection)
    doubtful = news.told or news.duplicate or news.twice or news.marked
    repeats = False
    if doubtful or connection.congestion is not OPEN:
        repeats = _alert(net, connection, news)
    set_timer(net, connection, news)
    arrivals = news.gone + news.told + news.twice
    if connection.congestion in output.REDUCED:
        _reduce(connection, arrivals, _lost(connection) - was_lost, advanced=news.advanced)
    elif news.gone or (news.told and connection.reordering > _USUAL_ORDER):
        output.grow(connection, arrivals)
    if repeats:
        repeat(net, connection)


def set_timer(net: Net, connection: Connection, news: News) -> None:
    """What is in flight has a whole timeout again, if the peer has more than before; or if it tells
    of something that was sent before what is waited for was sent again (tcp_clean_rtx_queue).
    """
    if not connection.flying:
        return
    if connection.reordering_at != inf or _has_forgotten(connection, news):
        return
    late = news.sacked_at is not None and news.sacked_at < connection.flying[0].sent_at
    if news.gone or news.advanced or late:
        output.restart_timer(net, connection)


def overtaken(
    net: Net, connection: Connection, blocks: tuple[tuple[int, int], ...], ack: Seq
) -> None:
    """An ACK that is old by its number tells of arrivals all the same (old_ack in tcp_ack)."""
    news = News(connection.snd_una)
    sacked(net, connection, blocks, ack, news)
    if _alert(net, connection, news):
        repeat(net, connection)


def _alert(net: Net, connection: Connection, news: News) -> bool:
    """Is something lost, or was nothing?  True when what is lost is to be sent again now
    (tcp_fastretrans_alert).
    """
    if news.marked:
        connection.prior_ssthresh = 0
    if _has_forgotten(connection, news):
        patience = max((connection.srtt or 0.0) / 2, _FORGETFUL)
        connection.retransmit_at, connection.short = net.after(patience), False
        connection.reordering_at = inf
        return False
    state = connection.congestion
    if state is OPEN:
        connection.first_repeat = None
    elif not before(connection.snd_una, connection.high_seq):
        if state is Congestion.CWR and connection.snd_una != connection.high_seq:
            _end_reduction(connection)
            connection.congestion = OPEN
        elif state is Congestion.RECOVERY:
            if not connection.terms.sack:
                connection.presumed = 0
            if undo.at_end(connection):
                return False
            _end_reduction(connection)
    state = connection.congestion
    if state is Congestion.RECOVERY:
        return _in_recovery(net, connection, news)
    repeats = False
    if state is Congestion.LOSS:
        repeats = _after_timeout(connection, news)
        _identify(net, connection, news)
        if connection.congestion is not OPEN and not news.lost_again:
            return repeats
    if not connection.terms.sack:
        if news.advanced:
            connection.presumed = 0
        _presume(connection, news)
    if connection.congestion in {OPEN, Congestion.DISORDER}:
        undo.by_repetitions(connection)
    _identify(net, connection, news)
    if not _lost(connection):
        _try_to_open(connection, news)
        return repeats
    _enter(connection, marked=news.marked)
    return True


def _has_forgotten(connection: Connection, news: News) -> bool:
    """The peer acknowledges less than it has told to have (tcp_check_sack_reneging)."""
    return news.advanced and bool(connection.flying) and connection.flying[0].sacked


def _in_recovery(net: Net, connection: Connection, news: News) -> bool:
    if not news.advanced:
        if not connection.terms.sack:
            _presume(connection, news)
    elif undo.part_was_late(connection):
        note_order(connection, news.una, highest(connection))
        if any(one.again for one in connection.flying):
            return False
        undo.of_part(connection)
    if undo.by_repetitions(connection):
        _try_to_open(connection, news)
    _identify(net, connection, news)
    if connection.congestion is not Congestion.RECOVERY:
        if not _lost(connection):
            return False
        _enter(connection, marked=news.marked)
    return True


def _after_timeout(connection: Connection, news: News) -> bool:
    """Was it too early?  If not, the rest is sent again (tcp_process_loss)."""
    recovered = not before(connection.snd_una, connection.high_seq)
    if (news.advanced or connection.request is not None) and undo.of_timeout(connection):
        return False
    if connection.doubts_timeout:
        # New data shows whether anything was lost at all (F-RTO, RFC 5682).
        if news.original and undo.of_timeout(connection, sure=True):
            return False
        if before(connection.high_seq, connection.snd_nxt):
            if news.told or news.duplicate:
                connection.doubts_timeout = False
        elif news.advanced and not recovered:
            connection.high_seq = connection.snd_nxt
            room = connection.snd_wnd - distance(connection.snd_una, connection.snd_nxt)
            if before(connection.snd_nxt, connection.end) and room > 0:
                return False
            connection.doubts_timeout = False
    if recovered:
        undo.at_end(connection)
        return False
    if not connection.terms.sack:
        if before(connection.high_seq, connection.snd_nxt) and news.duplicate:
            _presume(connection, news)
        elif news.advanced:
            connection.presumed = 0
    return True


def _try_to_open(connection: Connection, news: News) -> None:
    if not undo.some_repeated(connection):
        connection.first_repeat = None
    if news.marked:
        told_of_congestion(connection)
    if connection.congestion is not Congestion.CWR:
        undo.keep_open(connection)


def presume_gone(connection: Connection, gone: int) -> int:
    """Without SACK an ACK of more tells what the duplicates before it were; how many segments of
    these are news (tcp_remove_reno_sacks).
    """
    fresh = max(gone - connection.presumed, min(gone, 1))
    connection.presumed = max(0, connection.presumed - max(0, gone - 1))
    _limit_presumed(connection, gone)
    return fresh


def _presume(connection: Connection, news: News) -> None:
    """Without SACK a duplicate tells that something has arrived (tcp_add_reno_sack)."""
    if not news.duplicate:
        return
    had = connection.presumed
    connection.presumed += 1
    _limit_presumed(connection, 0)
    if connection.presumed > had:
        connection.delivered += 1
        news.told += 1


def _limit_presumed(connection: Connection, gone: int) -> None:
    """Not more than are in flight; if there were more, the order has changed
    (tcp_check_reno_reordering).
    """
    flying = len(connection.flying)
    most = flying - min(max(_lost(connection), 1), flying)
    if connection.presumed > most:
        connection.presumed = most
        connection.reordering = min(flying + gone, _MOST_DISORDER)
        connection.reordered = True


def _answers_tail_probe(connection: Connection, news: News) -> None:
    """Has the question about the tail repaired a loss (tcp_process_tlp_ack)?"""
    end = connection.probe_end
    assert end is not None
    if before(connection.snd_una, end):
        return
    same = not news.advanced and news.duplicate and not news.told
    if not connection.probe_repeats or news.probe_twice or same:
        connection.probe_end = None
    elif connection.snd_una != end:
        reduce_from_here(connection)
        connection.congestion = Congestion.CWR
        _end_reduction(connection)
        undo.keep_open(connection)


def _settle(net: Net, connection: Connection) -> None:
    """Where something came twice, what is late is waited for longer (tcp_rack_update_reo_wnd)."""
    if connection.rack_newest[0] < connection.settled_at:
        connection.told_twice = False
    if connection.told_twice:
        connection.settle_steps = min(connection.settle_steps + 1, _MOST_STEPS)
        connection.told_twice = False
        connection.settled_at = net.now
        connection.settle_rounds = undo.ROUNDS
    elif not connection.settle_rounds:
        connection.settle_steps = 1


def _identify(net: Net, connection: Connection, news: News) -> None:
    """Mark what is lost (tcp_identify_packet_loss)."""
    if not connection.flying:
        return
    if not connection.terms.sack:
        early = connection.congestion not in {Congestion.RECOVERY, Congestion.LOSS}
        many = early and connection.presumed >= connection.reordering
        partial = connection.congestion is Congestion.RECOVERY and news.advanced
        first = connection.flying[0]
        if (many or partial) and not first.lost:
            first.lost, first.again = True, False
        return
    if not connection.rack_news:
        return
    connection.rack_news = False
    again = sum(one.again for one in connection.flying)
    wait = _detect(net, connection)
    news.lost_again = sum(one.again for one in connection.flying) < again
    if wait:
        connection.reordering_at = net.after(min(wait + PROBE_MIN, connection.rto))
        connection.retransmit_at, connection.short = inf, True


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
    return min(connection.least_rtt / 4 * connection.settle_steps, connection.srtt or 0.0)


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
        output.await_timeout(net, connection)


def _enter(connection: Connection, *, marked: bool = False) -> None:
    """The first loss halves the window (tcp_enter_recovery)."""
    if not undo.some_repeated(connection):
        connection.first_repeat = None
    connection.prior_ssthresh = 0
    undo.begin(connection)
    if connection.congestion not in output.REDUCED:
        if not marked:
            connection.prior_ssthresh = _usual_ssthresh(connection)
        reduce_from_here(connection)
    connection.congestion = Congestion.RECOVERY


def _usual_ssthresh(connection: Connection) -> int:
    """What it was before a loss, or where the window has grown to since (tcp_current_ssthresh)."""
    if connection.congestion in output.REDUCED:
        return connection.ssthresh
    return max(connection.ssthresh, (connection.cwnd >> 1) + (connection.cwnd >> 2))


def reduce_from_here(connection: Connection) -> None:
    """Begin to make cwnd smaller, until all that is sent now is acknowledged."""
    connection.high_seq = connection.snd_nxt
    connection.probe_end = None
    connection.credit = 0
    connection.prior_cwnd = connection.cwnd
    connection.prr_delivered = connection.prr_out = 0
    connection.ssthresh = max(connection.cwnd >> 1, 2)
    connection.sends_less = connection.terms.ecn


def _end_reduction(connection: Connection) -> None:
    """It is as small as it was to become, unless that was undone (tcp_end_cwnd_reduction)."""
    wanted = connection.congestion is Congestion.CWR or connection.undo_from is not None
    if wanted and connection.ssthresh != NO_THRESHOLD:
        connection.cwnd = connection.ssthresh


def told_of_congestion(connection: Connection) -> None:
    """The peer has seen a mark: send less, but not twice a round trip (tcp_enter_cwr)."""
    connection.prior_ssthresh = 0
    if connection.congestion in {OPEN, Congestion.DISORDER}:
        connection.undo_from = None
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
    place, most = 0, bursts.size(net, connection)
    while place < len(connection.flying):
        room = connection.cwnd - output.in_flight(connection)
        if room <= 0:
            return
        one, sent = connection.flying[place], 0
        if one.lost and not one.again and not one.sacked:
            sent = output.repeat_some(net, connection, place, min(room, most))
            if not sent:
                return
            if connection.congestion in output.REDUCED:
                connection.prr_out += sent
            if not place and connection.reordering_at == inf:
                output.whole_timeout(net, connection)
        place += sent or 1


def timeout(net: Net, connection: Connection) -> None:
    """What is not known to have arrived is lost, but for what was sent just now, and one segment
    may go (tcp_enter_loss).
    """
    state = connection.congestion
    fresh = state in {OPEN, Congestion.DISORDER}
    told = sum(one.sacked for one in connection.flying) or connection.presumed
    _all_lost(net, connection)
    again = state is Congestion.LOSS and not connection.timeouts
    if fresh or again or not before(connection.snd_una, connection.high_seq):
        connection.prior_ssthresh = _usual_ssthresh(connection)
        connection.prior_cwnd = connection.cwnd
        connection.ssthresh = max(connection.cwnd >> 1, 2)
        undo.begin(connection)
    if fresh and told >= _USUAL_ORDER:
        connection.reordering = min(connection.reordering, _USUAL_ORDER)
    connection.congestion = Congestion.LOSS
    connection.cwnd = output.in_flight(connection) + 1
    connection.credit = 0
    connection.high_seq = connection.snd_nxt
    connection.probe_end = None
    connection.sends_less = connection.terms.ecn
    connection.doubts_timeout = fresh or state is Congestion.CWR or bool(connection.timeouts)
    connection.reordering_at = inf


def _all_lost(net: Net, connection: Connection) -> None:
    """A peer that has forgotten what it had told of has lost all (tcp_timeout_mark_lost)."""
    first = connection.flying[0]
    forgotten = first.sacked
    connection.presumed = 0
    for one in connection.flying:
        if forgotten:
            one.sacked = False
        elif one is not first and connection.rack_rtt > net.now - one.sent_at:
            continue
        if not one.sacked:
            one.lost, one.again = True, False


def _lost(connection: Connection) -> int:
    return sum(one.lost for one in connection.flying)
