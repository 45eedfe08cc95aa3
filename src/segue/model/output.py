"""What goes out: SYN-ACKs, data, FINs, ACKs and resets (net/ipv4/tcp_output.c)."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from segue.model import buffers, bursts, receive_window, undo
from segue.model.connection import INITIAL_WINDOW, Connection, Flight
from segue.model.durations import (
    DELAYED_ACK,
    PROBE_MIN,
    RTO_MAX,
    RTO_MIN,
    STAMP_TICK,
    TIMEOUT_INIT,
)
from segue.model.net import Net
from segue.model.request import Request
from segue.model.states import CAN_SEND, CLOSE, OPEN, Congestion, Input
from segue.wire.options import Options, aligned_stamps, emit
from segue.wire.seq import Seq, add, before, distance, later
from segue.wire.tcp import ACK, CWR, ECE, FIN, PSH, RST, SYN

_UNSCALED = 0xFFFF
_ECT0 = 2
REDUCED = frozenset({Congestion.CWR, Congestion.RECOVERY})  # cwnd becomes smaller
_ASKS = frozenset({OPEN, Congestion.CWR})  # about the tail
_OLDEST_ECHO = ((1 << 31) - 1) // 1000  # milliseconds


def syn_ack(net: Net, request: Request, *, cookie: bool = False) -> None:
    """Send the SYN-ACK of a request, for the first time or again (tcp_make_synack).

    Of a SYN cookie the stamp is part of what it says: ``first_stamp`` is sent as it is.
    """
    terms = request.terms
    if cookie and request.first_stamp is not None:
        stamp = request.first_stamp
    else:
        stamp = net.stamp(request.ts_offset)
    if request.first_stamp is None:
        request.first_stamp = stamp
    request.last_stamp = stamp
    given, request.fast_open = request.fast_open, None  # only once (tcp_rtx_synack)
    said = Options(
        mss=terms.our_mss,
        window_scale=terms.scale_in,
        sack_permitted=terms.sack,
        stamps=(stamp, request.ts_recent) if terms.stamps else None,
        fast_open=given,
        experimental=request.experimental,
    )
    taken = add(request.irs, 1 + request.early)
    window = min(terms.window, _UNSCALED)
    flags = SYN | ACK | (ECE if terms.ecn and not cookie else 0)
    net.send(request.path, request.iss, taken, flags, window, emit(said))


def segment(
    net: Net, connection: Connection, seq: Seq, flags: int, payload: bytes = b"",
    *, fresh: bool = False,
) -> None:  # fmt: skip
    """One segment with the present acknowledgement and window; no ACK is owed after it.

    ``fresh`` is data that was never sent before.
    """
    blocks: tuple[tuple[int, int], ...] = ()
    if connection.early or connection.repeated is not None:
        blocks = _said_of_gaps(connection)
    terms, said, tos = connection.terms, b"", 0
    stamps = (net.stamp(connection.ts_offset), connection.ts_recent) if terms.stamps else None
    if blocks:
        said = emit(Options(stamps=stamps, sack=blocks))
    elif stamps is not None:
        said = aligned_stamps(*stamps)
    connection.wrote_at = net.now
    if payload and net.now - connection.heard_at < connection.ack_delay:
        connection.interactive = True  # the program answers (tcp_event_data_sent)
    window = receive_window.window(connection)
    if terms.ecn and not flags & RST:
        # What is sent again is never marked (RFC 3168, 6.1.5).
        if payload and fresh:
            tos = _ECT0
            flags |= CWR if connection.sends_less else 0
            connection.sends_less = False
        flags |= ECE if connection.echoes else 0
    net.send(connection.path, seq, connection.rcv_nxt, flags, window, said, payload, tos)
    if connection.owed:
        connection.owed = False
        if connection.quick:
            connection.quick -= 1
            if not connection.quick:
                connection.ack_delay = DELAYED_ACK
        if connection.buffer is not None:
            connection.buffer.pushed = 0
    connection.ack_at = inf
    connection.ack_now = False


def _said_of_gaps(connection: Connection) -> tuple[tuple[int, int], ...]:
    """What came again, which is said once, and what came early."""
    if not connection.terms.sack:
        return ()
    blocks, repeated = connection.blocks() if connection.early else (), connection.repeated
    if repeated is not None:
        connection.repeated = None
        blocks = ((repeated[0], repeated[1]), *blocks)
    return blocks[: 3 if connection.terms.stamps else 4]


def acknowledge(net: Net, connection: Connection) -> None:
    """An ACK by itself, now."""
    segment(net, connection, _acceptable(connection), ACK)


def _acceptable(connection: Connection) -> Seq:
    """The number for a segment without data: within the window, also where that has become smaller
    than what was sent (tcp_acceptable_seq).
    """
    beyond = distance(connection.snd_una, connection.snd_nxt) - connection.snd_wnd
    if beyond > 0 and beyond >= 1 << (connection.terms.scale_in or 0):
        return add(connection.snd_una, connection.snd_wnd)
    return connection.snd_nxt


def idle_before(net: Net, connection: Connection) -> None:
    """A window that was not used for some timeouts is smaller (tcp_slow_start_after_idle_check)."""
    idle = net.now - connection.sent_at
    if not net.sysctls.tcp_slow_start_after_idle or connection.flying or idle <= connection.rto:
        return
    connection.ssthresh = max(connection.ssthresh, connection.cwnd * 3 // 4)
    least = min(INITIAL_WINDOW, connection.cwnd)
    idle -= connection.rto
    while idle > 0 and connection.cwnd > least:
        connection.cwnd >>= 1
        idle -= connection.rto
    connection.cwnd = max(connection.cwnd, least)


def grow(connection: Connection, segments: int) -> None:
    """Slow start, then one segment a round trip (RFC 5681, 3.1)."""
    if not connection.uses_cwnd:
        return
    if connection.cwnd < connection.ssthresh:
        grown = min(connection.cwnd + segments, connection.ssthresh)
        segments -= grown - connection.cwnd
        connection.cwnd = grown
    if not segments:
        return
    # By one segment for as many as the window has (tcp_cong_avoid_ai).
    if connection.credit >= connection.cwnd:
        connection.credit = 0
        connection.cwnd += 1
    connection.credit += segments
    if connection.credit >= connection.cwnd:
        more, connection.credit = divmod(connection.credit, connection.cwnd)
        connection.cwnd += more


def transmit(
    net: Net, connection: Connection, *, push: bool = False, more: bool = False, one: bool = False
) -> None:
    """Send what may be sent of what the program has written, and its FIN after that
    (tcp_write_xmit).

    With ``push`` nothing waits for being small; with ``more`` what is small waits for more.
    ``one`` is the first buffer alone.
    """
    if connection.fin_sent or (
        not connection.fin_wanted and (not connection.outgoing or connection.state not in CAN_SEND)
    ):
        return
    had = connection.snd_nxt
    left = distance(had, connection.end)
    if not left and not connection.fin_wanted:
        return
    size, flying, waits = connection.sending_size, in_flight(connection), False
    most = bursts.size(net, connection) if left > size else 1
    while flying < connection.cwnd:
        quota = bursts.room(connection, flying, most) if most > 1 else 1
        held = buffers.first(connection, quota * size) if left else 0
        last = held == left
        fin = last and connection.fin_wanted
        room = connection.snd_wnd - distance(connection.snd_una, connection.snd_nxt)
        if held + fin <= 0 or min(held, size) + (fin and held <= size) > room:
            break  # tcp_snd_wnd_test
        if held <= size:
            may_go = held == size or not last or fin
            if not may_go and not _may_be_small(connection, push=push, more=more):
                break  # tcp_nagle_test
            take = held
        elif not one and bursts.waits(net, connection, flying, most, held):
            waits = True
            break
        else:
            small = _may_be_small(connection, push=push, more=more)
            take = _split(held, quota * size, room, size, last=last, small=small)
        _send_buffer(net, connection, take, size, fin=fin and take == held)
        left -= take
        flying += max(1, -(-take // size))
        if one or connection.fin_sent or not (left or connection.fin_wanted):
            break
    full = waits or flying >= connection.cwnd
    if connection.snd_nxt != had or full:
        _note_use(connection, full=full)
    if connection.reordering_at != inf:
        return  # what is late is looked for first
    if connection.retransmit_at == inf and (connection.flying or connection.unsent):
        restart_timer(net, connection)
    elif connection.snd_nxt != had:
        _new_was_sent(net, connection)


def _new_was_sent(net: Net, connection: Connection) -> None:
    """The question about the tail is about what was sent last, and never after the timeout of what
    was sent first; where nothing is asked any more that timeout is waited for.
    """
    probe = _asks_after(connection)
    if probe is not None:
        left = connection.flying[0].sent_at + _timeout(net, connection) - net.now
        connection.retransmit_at = net.after(min(probe, left) if left > 0 else probe)
        connection.short = True
    elif connection.short:
        await_timeout(net, connection)


def _split(held: int, most: int, room: int, size: int, *, last: bool, small: bool) -> int:
    """How much of a buffer of some segments goes at once (tcp_mss_split_point)."""
    if most <= room and not last:
        return min(held, most)
    needed = min(held, room)
    if most <= needed:
        return most
    return needed if small else needed - needed % size


def _send_buffer(net: Net, connection: Connection, size: int, most: int, *, fin: bool) -> None:
    """Some segments at once, whose headers are made once: they say the same.

    The last of several has PSH, which it does not keep for when it is sent again
    (__tcp_transmit_skb).
    """
    told, left, begin = connection.repeated, size, connection.snd_nxt
    kept = add(begin, size) in connection.pushes
    push = kept or size > most
    while True:
        part = min(left, most)
        left -= part
        connection.repeated = told
        last = not left
        sent = _send_new(net, connection, part, fin=fin and last, push=push and last)
        sent.buffer, sent.pushed = begin, kept and last
        if last:
            break
    if size % most:
        connection.small = add(connection.tail, size % most)
    buffers.sent(connection)


def _note_use(connection: Connection, *, full: bool) -> None:
    """How much of cwnd was used (tcp_cwnd_validate)."""
    flying = len(connection.flying)
    over = not before(connection.snd_una, connection.round_end)
    if over or full or (not connection.limited and flying > connection.most_flying):
        connection.limited, connection.most_flying = full, flying
        connection.round_end = connection.snd_nxt


def in_flight(connection: Connection) -> int:
    """Segments of which nothing is known (tcp_packets_in_flight)."""
    if connection.congestion is OPEN:
        return len(connection.flying)
    known = sum(one.sacked + one.lost - one.again for one in connection.flying)
    return max(0, len(connection.flying) - known - connection.presumed)


def held_back(net: Net, connection: Connection) -> bool:
    """Send one segment of what waits for ACKs of others; False when there is none that may go."""
    waiting = distance(connection.snd_nxt, connection.end)
    room = connection.snd_wnd - distance(connection.snd_una, connection.snd_nxt)
    size = connection.sending_size
    take = min(buffers.first(connection, size), size)
    fin = take == waiting and connection.fin_wanted
    if take + fin <= 0 or take + fin > room or connection.fin_sent:
        return False
    _send_buffer(net, connection, take, size, fin=fin)
    return True


def fill(net: Net, connection: Connection) -> bool:
    """Send as much as a window that is too small has room for; False if it has none."""
    waiting = distance(connection.snd_nxt, connection.end)
    take = min(waiting, connection.sending_size, connection.snd_wnd)
    if take <= 0:
        return False
    last = take == waiting and connection.fin_wanted
    fin = last and take < connection.snd_wnd
    connection.fin_split = last and not fin
    connection.small = add(connection.snd_nxt, take)
    _send_new(net, connection, take, fin=fin, push=True)
    return True


def _may_be_small(connection: Connection, *, push: bool, more: bool) -> bool:
    """A small segment waits while an earlier *small* one is not acknowledged, unless TCP_NODELAY,
    and with ``more`` for what is written next; with ``push`` it waits for nothing.

    That is Minshall's form of Nagle's rule (tcp_minshall_check): with the rule of RFC 9293, 3.7.4
    the end of each answer of some segments would wait for a delayed ACK.  A SYN-ACK in flight is no
    earlier segment.
    """
    if push or more:
        return push
    options = connection.options
    if connection.fin_wanted or options.get("TCP_CORK"):
        return connection.fin_wanted
    if options.get("TCP_NODELAY"):
        return True
    return not connection.flying or not before(connection.snd_una, connection.small)


def _send_new(net: Net, connection: Connection, size: int, *, fin: bool, push: bool) -> Flight:
    at, now, payload = connection.snd_nxt, net.now, b""
    if size:
        start = distance(connection.base, at)
        payload = bytes(connection.outgoing[start : start + size])
    push = push and (size > 0 or connection.fin_split)
    flags = ACK | (PSH if push else 0) | (FIN if fin else 0)
    end = connection.snd_nxt = add(at, size + fin)
    connection.tail = at
    sent = Flight(at, end, now, push)
    connection.flying.append(sent)
    if connection.congestion in REDUCED:
        connection.prr_out += 1
    connection.fin_sent = fin
    connection.sent_at = now
    segment(net, connection, at, flags, payload, fresh=True)
    if fin and connection.state in CAN_SEND:
        connection.feed(Input.FIN_SENT)
    return sent


def cut_anew(connection: Connection, place: int, parts: int, start: Seq, size: int) -> int:
    """Cut some segments that were sent at once into others, from a number on; how many these are
    (tcp_set_skb_tso_segs).
    """
    flying = connection.flying
    end, pushed = flying[place + parts - 1].end, flying[place + parts - 1].pushed
    fin = connection.fin_sent and end == connection.snd_nxt
    count = max(1, -(-(distance(start, end) - fin) // size))
    for _ in range(parts, count):
        flying.insert(place, replace(flying[place]))
    for _ in range(count, parts):
        del flying[place]
    for number in range(count):
        one, last = flying[place + number], number == count - 1
        one.start = add(start, number * size)
        one.end, one.pushed = end if last else add(one.start, size), pushed and last
    if place + count == len(flying):
        connection.tail = flying[-1].start
    return count


def repeat_some(net: Net, connection: Connection, place: int, most: int) -> int:
    """Send again as many segments as were sent at once, up to so many; how many went.

    They go at once again, so that the last of several has PSH (tcp_retransmit_skb).
    """
    flying, first = connection.flying, connection.flying[place]
    parts, size = connection.sent_at_once(place), connection.sending_size
    if parts > 1 and distance(first.start, first.end) != size:
        parts = cut_anew(connection, place, parts, first.start, size)
    edge, count = add(connection.snd_una, connection.snd_wnd), 1
    while count < min(parts, most) and not before(edge, flying[place + count].end):
        count += 1
    for number in range(count, parts):
        flying[place + number].buffer = flying[place + count].start  # the rest is by itself
    if count == 1:
        return int(repeat(net, connection, place))
    told = connection.repeated
    for number in range(count):
        connection.repeated = told
        _goes_again(net, connection, flying[place + number], push=number == count - 1)
    return count


def repeat(net: Net, connection: Connection, place: int = 0) -> bool:
    """Send one segment again, with those after it that there is room for
    (tcp_retrans_try_collapse).  False if the peer's window has become too small for it.
    """
    one = connection.flying[place]
    one.start = later(one.start, connection.snd_una)  # the peer has the rest (tcp_trim_head)
    edge = add(connection.snd_una, connection.snd_wnd)
    open_to = distance(one.start, edge)
    if open_to <= 0 and one.start != connection.snd_una:
        return False  # only the first is a question about the window
    fin = connection.fin_sent and one.end == connection.snd_nxt
    most = connection.sending_size if open_to <= 0 else min(connection.sending_size, open_to)
    if most < distance(one.start, one.end) - fin:
        # The rest stays behind (tcp_fragment), as where SACK ranges take room.
        cut = add(one.start, most)
        connection.flying.insert(place + 1, replace(one, start=cut))
        one.end, one.pushed = cut, False
    room = connection.sending_size - distance(one.start, one.end)
    while place + 1 < len(connection.flying):
        following = connection.flying[place + 1]
        room -= distance(following.start, following.end)
        if room < 0 or following.sacked or before(edge, following.end):
            break
        one.end = following.end
        one.pushed |= following.pushed
        del connection.flying[place + 1]
    _goes_again(net, connection, one)
    return True


def repeat_tail(net: Net, connection: Connection) -> bool:
    """Send the last segment again, as a question.  False if it is beyond a window that was shrunk,
    and no question about that (tcp_send_loss_probe).
    """
    at, una = connection.tail, connection.snd_una
    if before(una, at) and not before(at, add(una, connection.snd_wnd)):
        return False
    last = connection.flying[-1]
    last.repeated, last.sent_at = True, net.now
    _again(net, connection, at, last)
    return True


def _goes_again(net: Net, connection: Connection, one: Flight, *, push: bool = False) -> None:
    undo.note_repetition(net, connection)
    one.again = one.repeated = True
    one.sent_at = net.now
    _again(net, connection, one.start, one, push=push)


def _again(net: Net, connection: Connection, at: Seq, one: Flight, *, push: bool = False) -> None:
    """Repeat this segment from a number on, which may be in the one before."""
    first = later(at, connection.snd_una)
    start = distance(connection.base, first)
    held = len(connection.outgoing) - start
    size = min(held, distance(first, one.end), connection.sending_size)
    fin = connection.fin_sent and size == held and distance(first, one.end) > size
    payload = bytes(connection.outgoing[start : start + size])
    flags = ACK | (PSH if payload and (push or one.pushed) else 0) | (FIN if fin else 0)
    connection.repetitions += 1
    segment(net, connection, first, flags, payload)


def restart_timer(net: Net, connection: Connection) -> None:
    """The tail is asked about, or a timeout waited for, of what is in flight; or of what waits for
    the window to open (tcp_set_xmit_timer).
    """
    probe = _asks_after(connection)
    if probe is not None:
        connection.retransmit_at = net.after(min(_timeout(net, connection), probe))
        connection.short = True
    elif connection.flying:
        await_timeout(net, connection)
    else:
        whole_timeout(net, connection)


def await_timeout(net: Net, connection: Connection) -> None:
    """The peer has a whole timeout again, but if something was to be done before it was over, it
    has been running since the first segment was sent (tcp_rearm_rto).
    """
    if not connection.flying:
        connection.retransmit_at = inf
    elif connection.short:
        left = connection.flying[0].sent_at + _timeout(net, connection) - net.now
        connection.retransmit_at = net.after(max(left, 0.0))
    else:
        whole_timeout(net, connection)
    connection.short = False


def whole_timeout(net: Net, connection: Connection) -> None:
    """From now on."""
    connection.retransmit_at, connection.short = net.after(_timeout(net, connection)), False


def _timeout(net: Net, connection: Connection) -> float:
    return min(net.timing.whole(connection.rto) * (1 << connection.backoff), RTO_MAX)


def _asks_after(connection: Connection) -> float | None:
    """When the tail is asked about; None if it is not (tcp_schedule_loss_probe)."""
    if connection.snd_una == connection.snd_nxt:
        return None  # the timeout is that of a probe of the window
    if not connection.terms.sack:
        return None
    if connection.congestion not in _ASKS:
        return None
    if connection.request is not None:
        return None
    if connection.srtt is None:
        return TIMEOUT_INIT
    alone = len(connection.flying) < 2
    return 2 * connection.srtt + (RTO_MIN if alone else PROBE_MIN)


def measure_echo(net: Net, connection: Connection, echo: int) -> None:
    """The same from a stamp of ours that came back, where that is not too old to tell
    (tcp_rtt_tsopt_us).
    """
    behind = (net.stamp(connection.ts_offset) - echo) & 0xFFFFFFFF
    if echo and behind < _OLDEST_ECHO:
        measure(connection, max(1, behind) * STAMP_TICK)


def measure(connection: Connection, took: float, least: float | None = None) -> None:
    """Learn from one round trip (RFC 6298, 2; Linux adds its floor to the variance's part).

    ``least`` is that of the segment that was sent last, ``took`` of the first.
    """
    if connection.srtt is None:
        connection.srtt, connection.rttvar = took, took / 2
    else:
        connection.rttvar += (abs(connection.srtt - took) - connection.rttvar) / 4
        connection.srtt += (took - connection.srtt) / 8
    connection.least_rtt = min(connection.least_rtt, took if least is None else least)
    connection.rto = min(connection.srtt + max(RTO_MIN, 4 * connection.rttvar), RTO_MAX)
    connection.backoff = 0


def abort(net: Net, connection: Connection) -> None:
    """Reset the peer (tcp_send_active_reset); the connection itself is the caller's to end."""
    net.counts["OutRsts"] += 1
    segment(net, connection, _acceptable(connection), RST | ACK)


def rearm(net: Net, connection: Connection) -> None:
    """Tell the heap when this connection next wants the time."""
    due = min(
        connection.retransmit_at, connection.ack_at, connection.end_at, connection.keep_at,
        connection.reordering_at,
    )  # fmt: skip
    if due != connection.due and connection.state is not CLOSE:
        net.timers.set(connection, due)
