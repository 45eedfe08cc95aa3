"""A segment comes for a connection: RFC 9293, 3.10.7.4, in the order of tcp_rcv_state_process.

    1. may it be?  (timestamp, window, RST, SYN: ``_acceptable``)
    2. what does it acknowledge?  (``_acknowledged``)
    3. what does it bring?  (``_take``)
    4. what is to be said?  (new data that may go, an ACK)
A connection in TIME_WAIT, and an orphan that only waits for a FIN, are time_wait.py's.
"""

from __future__ import annotations

import errno
from math import inf

from segue.model import (
    acknowledging,
    buffers,
    first_window,
    output,
    receive_window,
    recovery,
    removal,
    reserve,
    time_wait,
    undo,
)
from segue.model.arrival import Arrival
from segue.model.connection import Connection, Flight
from segue.model.durations import OUT_OF_WINDOW_PAUSE
from segue.model.events import Readable
from segue.model.net import Net
from segue.model.recovery import News
from segue.model.request import Request
from segue.model.states import (
    CAN_RECEIVE,
    CAN_SEND,
    CLOSE,
    FIN_WAIT1,
    FIN_WAIT2,
    OPEN,
    SYN_RECV,
    TIME_WAIT,
    Input,
    State,
)
from segue.wire.seq import Seq, add, before, distance, later
from segue.wire.tcp import ACK, CWR, ECE, FIN, RST, SYN

_MARKED = 3  # CE
_OVERTAKEN = 1200  # milliseconds for each second of the timeout (tcp_tsval_replay)
_AFTER_FIN = frozenset({State.CLOSE_WAIT, State.LAST_ACK, State.CLOSING})


def arrived(net: Net, connection: Connection, arrival: Arrival) -> None:
    """Do all that a segment leads to; the connection may be over afterwards."""
    if connection.request is not None and not _fast_open_agrees(net, connection, arrival):
        return
    if not arrival.flags & (ACK | RST | SYN) or not _acceptable(net, connection, arrival):
        return
    was = connection.state
    if not arrival.flags & ACK or not _acknowledged(net, connection, arrival):
        return
    if connection.state is CLOSE:
        return
    if connection.fin_later and connection.state in CAN_SEND:
        # The handshake is over, and the FIN does not wait for what the segment brings.
        connection.fin_later, connection.fin_wanted = False, True
        output.transmit(net, connection)
    if connection.state is TIME_WAIT:
        time_wait.begin(net, connection)
        return
    alone = connection.orphan and connection.state is FIN_WAIT2 and was is FIN_WAIT1
    if alone and arrival.flags & FIN:
        time_wait.begin_whole(net, connection)
    elif alone and not before(connection.rcv_nxt, arrival.end):
        # A segment that acknowledges the FIN of an orphaned socket is not processed further.
        _say(net, connection, owed=False)
        return
    if connection.terms.ecn and arrival.payload:
        _note_marks(net, connection, arrival)
    if not arrival.length:
        connection.told_echo = connection.echo
    owed = arrival.length > 0 and _take(net, connection, arrival)
    _say(net, connection, owed=owed)


def _note_marks(net: Net, connection: Connection, arrival: Arrival) -> None:
    """A mark of congestion is echoed until the peer says that it sends less (RFC 3168, 6.1.3)."""
    if arrival.flags & CWR:
        connection.echoes, connection.ack_now = False, True
    if arrival.ecn == _MARKED:
        if not connection.echoes:
            acknowledging.hurry(net, connection, 2)
        connection.echoes = True


def _say(net: Net, connection: Connection, *, owed: bool) -> None:
    """Data that may go now takes the ACK along; without data it goes by itself, or soon."""
    if connection.state is CLOSE:
        return
    if connection.outgoing or connection.fin_wanted:
        output.transmit(net, connection)
    if connection.ack_now:
        output.acknowledge(net, connection)
    elif owed and distance(connection.sent_ack, connection.rcv_nxt) > 0:
        acknowledging.soon(net, connection)
    if connection.orphan and connection.state is FIN_WAIT2 and connection.end_at == inf:
        time_wait.begin_orphan(net, connection)
    else:
        output.rearm(net, connection)


def _fast_open_agrees(net: Net, connection: Connection, arrival: Arrival) -> bool:
    """What tcp_check_req asks of a segment for a child whose handshake is not over."""
    request = connection.request
    assert request is not None
    flags, first = arrival.flags, connection.rcv_nxt
    stale = first_window.is_stale(request, arrival)
    if arrival.seq == request.irs and flags & (SYN | ACK | RST) == SYN and not stale:
        if net.now - request.answered_at >= OUT_OF_WINDOW_PAUSE:
            request.answered_at = net.now
            request.retransmitted = True
            output.syn_ack(net, request)
        return False
    if stale or not first_window.is_within(request, arrival, first):
        if not flags & RST:
            first_window.answer(net, request, arrival, connection.snd_nxt, first)
        return False
    if flags & RST and arrival.seq != first:
        first_window.challenge(net, request, arrival, connection.snd_nxt, first)
        return False
    if flags & SYN and not flags & RST and arrival.seq != request.irs:
        net.reset(arrival)
        return False
    return bool(flags & (ACK | RST))


def _acceptable(net: Net, connection: Connection, arrival: Arrival) -> bool:
    """The checks of tcp_validate_incoming; what fails them may be answered, and is over."""
    flags = arrival.flags
    stamps = arrival.options.stamps if connection.terms.stamps else None
    if stamps is not None:
        # One tick older is let pass, as is a reset (RFC 7323, 5.2 and TCP_PAWS_WINDOW).
        age = distance(Seq(stamps[0]), Seq(connection.ts_recent))
        if age > 1 and not flags & RST and not _late_ack(net, connection, arrival, age):
            return False
    if not _is_in_window(connection, arrival):
        if flags & RST:
            if _resets_after_fin(connection, arrival):
                _reset(net, connection)
        elif flags & SYN:
            _challenge(net, connection)
        else:
            _answer(net, connection, arrival)
        return False
    if flags & RST:
        # Anything but the exact number might be a blind guess (RFC 5961, 3.2).
        exact = arrival.seq == connection.rcv_nxt
        if connection.ranges and connection.terms.sack:
            edge = max(high for _, high in connection.ranges)
            exact = exact or arrival.seq == add(connection.origin, edge)
        if exact or _resets_after_fin(connection, arrival):
            _reset(net, connection)
        else:
            _challenge(net, connection)
        return False
    if flags & SYN:
        _challenge(net, connection)  # RFC 5961, 4.2
        return False
    return True


def _is_in_window(connection: Connection, arrival: Arrival) -> bool:
    """Some of it is; and all of it, unless all that came before was read (tcp_sequence)."""
    if arrival.seq == connection.rcv_nxt and not before(connection.offered_edge, arrival.end):
        return True  # as is usual
    if before(arrival.end, connection.sent_ack):
        return False
    edge = later(connection.rcv_nxt, connection.offered_edge)
    if before(edge, arrival.seq):
        return False
    return not connection.incoming or not before(edge, add(arrival.seq, len(arrival.payload)))


def _late_ack(net: Net, connection: Connection, arrival: Arrival, age: int) -> bool:
    """What has an old stamp is refused, unless it is an ACK that another has overtaken.

    ``age`` is in milliseconds (tcp_disordered_ack_check).
    """
    flags = arrival.flags
    if flags & SYN:
        _challenge(net, connection)
        return False
    if flags & ACK and not arrival.length:
        if before(arrival.seq, connection.rcv_nxt):
            return False  # it can only be old, and so is no news to either side
        same = arrival.seq == connection.rcv_nxt and arrival.ack == connection.snd_una
        if same and age <= connection.rto * _OVERTAKEN and not _tells_window(connection, arrival):
            return True
    net.counts["PAWSEstab"] += 1
    _answer(net, connection, arrival)
    return False


def _resets_after_fin(connection: Connection, arrival: Arrival) -> bool:
    """Some send it with the number of their FIN (tcp_reset_check)."""
    return connection.state in _AFTER_FIN and arrival.seq == add(connection.rcv_nxt, -1)


def _reset(net: Net, connection: Connection) -> None:
    error = _error_of_reset(connection)
    net.counts["EstabResets"] += 1
    removal.finish_fast_open(net, connection, reset=True)
    removal.end(net, connection, error)


def _error_of_reset(connection: Connection) -> int:
    return errno.EPIPE if connection.state is State.CLOSE_WAIT else errno.ECONNRESET


def _answer(net: Net, connection: Connection, arrival: Arrival) -> None:
    """Say where we stand (tcp_send_dupack); to what has no data or FIN, not too often."""
    if first_window.was_answered(net, connection, arrival):
        return
    if arrival.length and before(arrival.seq, connection.rcv_nxt):
        _note_repeated(connection, arrival)
        acknowledging.hurry(net, connection)
    output.acknowledge(net, connection)
    output.rearm(net, connection)


def _note_repeated(connection: Connection, arrival: Arrival) -> None:
    """The part of it that we have."""
    end, nxt = arrival.end, connection.rcv_nxt
    connection.note_repeated(arrival.seq, nxt if before(nxt, end) else end)


def _challenge(net: Net, connection: Connection) -> None:
    """Send a challenge ACK (RFC 5961), at most twice a second."""
    if net.now - connection.answered_at < OUT_OF_WINDOW_PAUSE:
        return
    connection.answered_at = net.now
    net.counts["TCPChallengeACK"] += 1
    output.acknowledge(net, connection)
    output.rearm(net, connection)


def _acknowledged(net: Net, connection: Connection, arrival: Arrival) -> bool:
    """Take note of the acknowledgement and the window; False when the segment is over (tcp_ack)."""
    ack, una = arrival.ack, connection.snd_una
    if before(connection.snd_nxt, ack):
        # Of what was never sent.
        if connection.shakes_hands:
            net.reset(arrival)
        else:
            _challenge(net, connection)
        return False
    connection.probes = 0
    connection.acked_at = net.now
    if before(ack, una):
        if connection.shakes_hands:
            net.reset(arrival)  # not even the SYN
            return False
        behind = distance(ack, una)
        predicted = reserve.is_predicted(connection, arrival)
        if predicted and arrival.options.stamps and connection.sent_ack == connection.rcv_nxt:
            connection.ts_recent = arrival.options.stamps[0]  # tcp_store_ts_recent
        if behind > min(connection.snd_max_wnd, connection.acked):
            kept = predicted and arrival.length > 0 and _take(net, connection, arrival)
            _challenge(net, connection)
            if kept:
                _say(net, connection, owed=True)
            return False
        if connection.terms.sack and arrival.options.sack:
            recovery.overtaken(net, connection, arrival.options.sack, ack)
        return True
    stamps = arrival.options.stamps if connection.terms.stamps else None
    value, connection.echo = stamps or (connection.ts_recent, 0)
    if value != connection.ts_recent:
        _remember_stamp(connection, arrival.seq, value)
    request = connection.request
    if request is not None:
        connection.snd_wl1 = add(arrival.seq, -1)  # the window of the SYN is not scaled
    updated = _update_window(connection, arrival)
    if ack == una == connection.snd_nxt and connection.outgoing:
        _answers_probe(net, connection)
    if ack != una or connection.flying:
        _judge(net, connection, arrival, updated=updated)
    if request is not None:
        _end_handshake(net, connection, request)
    return True


def _end_handshake(net: Net, connection: Connection, request: Request) -> None:
    """Of a Fast Open child, after what the ACK tells of data: that is the better round trip, and
    only a timeout waits for the rest (tcp_rcv_state_process, tcp_rcv_synrecv_state_fastopen).
    """
    removal.finish_fast_open(net, connection, reset=False)
    connection.delivered += 1
    if connection.shakes_hands and connection.srtt is None:
        if not request.retransmitted and not request.timeouts:
            output.measure(connection, net.now - request.sent_at)
        elif connection.terms.stamps:
            output.measure_echo(net, connection, connection.echo)
    if connection.state is SYN_RECV:
        connection.feed(Input.HANDSHAKE_ENDED)
    connection.reordering_at = inf
    output.await_timeout(net, connection)


def _judge(net: Net, connection: Connection, arrival: Arrival, *, updated: bool) -> None:
    """What the ACK tells of what was sent, and what follows from it."""
    una = connection.snd_una
    news = News(una, advanced=arrival.ack != una)
    terms = connection.terms
    flew = bool(connection.flying)
    # Where nothing is told of by SACK, nothing was acknowledged out of its order.
    in_order = connection.congestion is OPEN
    high = una if in_order else recovery.highest(connection)
    connection.snd_una = arrival.ack
    # Ranges are read before what is acknowledged is done with, so that RACK's round trip is that of
    # the latter (tcp_ack).
    if terms.sack and arrival.options.sack and (flew or news.advanced):
        recovery.sacked(net, connection, arrival.options.sack, arrival.ack, news)
    if news.advanced:
        _advance(net, connection, high, news)
        _cut_anew(connection, news)
    news.marked = terms.ecn and bool(arrival.flags & ECE)
    usual = news.advanced or arrival.length or updated or news.twice
    news.duplicate = flew and not usual
    _measure(net, connection, news)
    if flew:
        recovery.judge(net, connection, news)
    if news.advanced:
        buffers.acknowledged(net, connection)
        if connection.fin_sent and arrival.ack == connection.snd_nxt:
            connection.feed(Input.FIN_ACKED)
            if connection.state is CLOSE:
                removal.end(net, connection)


def _measure(net: Net, connection: Connection, news: News) -> None:
    """The round trip of what was sent once, or of a stamp that came back (tcp_ack_update_rtt)."""
    first = news.sent_at if news.sent_at is not None else news.sacked_at
    if first is not None:
        output.measure(connection, net.now - first, net.now - news.last_at)
    elif news.gone and connection.echo:
        output.measure_echo(net, connection, connection.echo)


def _answers_probe(net: Net, connection: Connection) -> None:
    """Nothing is in flight, and something waits for the window: has it opened (tcp_ack_probe)?"""
    waiting = connection.unsent
    if not waiting:
        return
    if connection.snd_wnd >= min(waiting, connection.sending_size):
        connection.backoff, connection.repeating_since = 0, None
        connection.retransmit_at = inf  # transmit() sets it anew
    else:
        output.restart_timer(net, connection)


def _tells_window(connection: Connection, arrival: Arrival) -> bool:
    """It is the newest word about the peer's window (tcp_may_update_window)."""
    if before(connection.snd_wl1, arrival.seq) or before(connection.snd_una, arrival.ack):
        return True
    window = arrival.window << connection.terms.scale_out
    return arrival.seq == connection.snd_wl1 and (window > connection.snd_wnd or not window)


def _remember_stamp(connection: Connection, seq: Seq, stamp: int) -> None:
    """It is to be echoed, unless it is older or not of the next segment (tcp_replace_ts_recent)."""
    if not before(connection.sent_ack, seq) and before(Seq(connection.ts_recent), Seq(stamp)):
        connection.ts_recent = stamp


def _update_window(connection: Connection, arrival: Arrival) -> bool:
    """Believe the newest word about it; True if this is it."""
    if not _tells_window(connection, arrival):
        return False
    window = arrival.window << connection.terms.scale_out
    connection.snd_wl1 = arrival.seq
    connection.snd_wnd = window
    if window > connection.snd_max_wnd:
        connection.snd_max_wnd = connection.reckoned_wnd = window
        connection.reckon_sizes()
    return True


def _advance(net: Net, connection: Connection, high: Seq, news: News) -> None:
    """The peer has more than before, when ``high`` was the end of what it had told of
    (tcp_clean_rtx_queue).
    """
    ack, sack = connection.snd_una, connection.terms.sack
    acked, low = distance(news.una, ack), ack
    flying, done, gone, again = connection.flying, 0, 0, False
    newest: Flight | None = None
    for one in flying:
        if before(ack, one.end):
            break
        done += 1
        again = again or one.repeated
        if one.sacked:
            continue
        gone += 1
        if one.repeated:
            if newest is not None and sack:
                recovery.arrived(net, connection, newest)
                newest = None
            sent = net.stamp_at(one.sent_at, connection.ts_offset)
            if sack and not undo.echoes_before(connection, sent):
                recovery.arrived(net, connection, one)
            continue
        # Of those that were sent once the first is the oldest, and the last the newest.
        if news.sent_at is None:
            news.sent_at, low = one.sent_at, one.start
            news.original = news.original or not before(connection.high_seq, one.end)
        newest, news.last_at = one, one.sent_at
    del flying[:done]
    if newest is not None and sack:
        recovery.arrived(net, connection, newest)
    if again:
        news.sent_at = None  # Karn: the ACK might be of either (RFC 6298, 3)
    if sack:
        recovery.note_order(connection, low, high)
    elif gone:
        news.original = news.original and not again
        gone = recovery.presume_gone(connection, gone)
    news.gone = gone
    connection.delivered += gone
    connection.acked += acked
    if connection.outgoing:
        data = max(0, min(distance(connection.base, ack), len(connection.outgoing)))
        del connection.outgoing[:data]
        connection.base = add(connection.base, data)
    connection.timeouts = 0
    connection.repeating_since = None
    connection.retransmit_at = connection.reordering_at = inf


def _cut_anew(connection: Connection, news: News) -> None:
    """The peer has a part of the first of some segments that were sent at once, and of which the
    same is known: the rest is cut anew from there on (tcp_tso_acked).
    """
    flying, una = connection.flying, connection.snd_una
    if not flying or not before(flying[0].start, una):
        return
    first, parts = flying[0], connection.sent_at_once(0)
    if parts == 1:
        return
    size = distance(first.start, first.end)
    gone = parts - output.cut_anew(connection, 0, parts, una, size)
    news.gone += gone
    connection.delivered += gone


def _take(net: Net, connection: Connection, arrival: Arrival) -> bool:
    """What it brings goes where it belongs; True when an ACK is owed for it."""
    if connection.state not in CAN_RECEIVE:
        # All after a FIN is nonsense, and dropped without a word (tcp_rcv_state_process); but what
        # comes again, a FIN too, must be acknowledged again.
        if not before(arrival.seq, connection.rcv_nxt):
            return False
        if before(connection.rcv_nxt, add(arrival.seq, len(arrival.payload))):
            _refuse_data(net, connection, arrival)
            return False
        _note_repeated(connection, arrival)
        connection.ack_now = True
        return False
    start, data, fin = arrival.seq, arrival.payload, bool(arrival.flags & FIN)
    end, nxt = add(start, len(data)), connection.rcv_nxt
    if connection.receive_shut and connection.fin_wanted and before(nxt, end):
        # Both sides are shut: nobody can ever read it, and the peer must know (RFC 2525, 2.17); a
        # FIN that is not in its turn says that there is more.
        _refuse_data(net, connection, arrival)
        return False
    if not before(nxt, arrival.end):
        acknowledging.hurry(net, connection)
        connection.note_repeated(arrival.seq, arrival.end)
        connection.owed = connection.ack_now = True
        return False
    begun = before(start, nxt)  # some of it was here before
    if data and not begun and not before(start, connection.offered_edge):
        # There is no room at all.
        acknowledging.hurry(net, connection)
        connection.owed = connection.ack_now = True
        return False
    if begun:
        known = distance(start, nxt)
        connection.note_repeated(start, nxt)
        start, data = nxt, data[known:]
    if receive_window.lacks(connection) and not reserve.is_predicted(connection, arrival):
        receive_window.make_room(net, connection)
    if start != connection.rcv_nxt:
        connection.put_early(start, data, fin=fin)
        if data:
            receive_window.early(net, connection, arrival)
        connection.owed = connection.ack_now = True
        return False
    if fin:
        connection.fin_at = end
    had = connection.rcv_nxt
    if data:
        if connection.echo and connection.echo != connection.told_echo:
            receive_window.note_echo(net, connection, arrival)
        buffer = connection.buffer or receive_window.of(net, connection)
        buffer.queue(len(data), len(arrival.packet))
        connection.incoming += data
    connection.rcv_nxt = end
    if data:
        acknowledging.data_came(net, connection, arrival)
    if connection.early:
        connection.join_early()
    ended = connection.fin_at == connection.rcv_nxt
    if ended:
        _peer_ends(net, connection)
    connection.received += distance(had, connection.rcv_nxt)
    if (data or ended) and connection.listener is None and not connection.orphan:
        net.events.append(Readable(connection.cookie))
    return before(had, connection.rcv_nxt)


def _refuse_data(net: Net, connection: Connection, arrival: Arrival) -> None:
    net.counts["TCPAbortOnData"] += 1
    net.reset(arrival)
    removal.end(net, connection, _error_of_reset(connection))


def _peer_ends(net: Net, connection: Connection) -> None:
    connection.fin_at = None
    connection.peer_ended = connection.owed = True
    connection.rcv_nxt = later(connection.rcv_nxt, add(connection.rcv_nxt, 1))
    connection.early, connection.ranges = [], ()
    # Linux says that at once, whatever waits: the program may never write again.
    connection.interactive = connection.state in CAN_SEND
    connection.feed(Input.FIN_ARRIVED)
    if connection.state is TIME_WAIT:
        output.acknowledge(net, connection)
        time_wait.begin(net, connection)
    elif connection.state is State.CLOSING:
        output.acknowledge(net, connection)
