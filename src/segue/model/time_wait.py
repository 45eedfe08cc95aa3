"""A connection that only waits: for a FIN as an orphan, or for old segments to die out.

Stands for ``struct tcp_timewait_sock`` and tcp_timewait_state_process.
"""

from __future__ import annotations

from math import inf

from segue.model import first_window, output, removal
from segue.model.arrival import Arrival
from segue.model.connection import Connection
from segue.model.durations import TIME_WAIT
from segue.model.net import Net
from segue.model.states import FIN_WAIT2, Input
from segue.wire.seq import Seq, add, before, distance
from segue.wire.tcp import ACK, FIN, RST, SYN

_APART = 65535 + 2  # a new connection's numbers begin so far after the last (tcp_timewait_...)
_MASK = 0xFFFFFFFF


def begin(net: Net, connection: Connection) -> None:
    """From now on for a minute; where too many do so already, it is over instead."""
    connection.retransmit_at = connection.ack_at = connection.keep_at = inf
    _wait(net, connection, TIME_WAIT)


def begin_whole(net: Net, connection: Connection) -> None:
    """A FIN that is not in its turn has acknowledged that of an orphan: its socket stays as it was,
    since that FIN may be the one that is awaited (tcp_rcv_state_process).
    """
    connection.whole = True
    connection.end_at = net.after(net.sysctls.tcp_fin_timeout)


def begin_orphan(net: Net, connection: Connection) -> None:
    """Nobody is there to read any more, and the peer has still to end."""
    _wait(net, connection, net.sysctls.tcp_fin_timeout)


def _wait(net: Net, connection: Connection, seconds: float) -> None:
    if not connection.waiting:
        if net.time_waits >= net.sysctls.tcp_max_tw_buckets:
            net.counts["TCPTimeWaitOverflow"] += 1
            removal.end(net, connection)
            return
        connection.waiting = True
        connection.answered_at = -inf  # it counts anew (tcp_time_wait)
        net.time_waits += 1
        net.orphans -= connection.orphan
    connection.end_at = net.after(seconds)
    output.rearm(net, connection)


def arrived(net: Net, connection: Connection, arrival: Arrival) -> Seq | None:
    """Where a new connection's numbers begin, if the segment is a SYN that may have the flow."""
    flags, nxt = arrival.flags, connection.rcv_nxt
    stamps = arrival.options.stamps if connection.terms.stamps else None
    stale = stamps is not None and distance(Seq(stamps[0]), Seq(connection.ts_recent)) > 0
    if connection.state is FIN_WAIT2:
        _waits_for_fin(net, connection, arrival, stale=stale and not flags & RST)
        return None
    if flags & RST:
        if not stale and arrival.seq == nxt:
            removal.end(net, connection)  # RFC 1337 warns of it; Linux does so by default
        return None
    if not stale and arrival.seq == nxt and not arrival.length:
        begin(net, connection)
        if stamps is not None:
            connection.ts_recent = stamps[0]
        return None
    newer = stamps is not None and distance(Seq(connection.ts_recent), Seq(stamps[0])) > 0
    if flags & (SYN | ACK) == SYN and not stale and (before(nxt, arrival.seq) or newer):
        start = Seq((connection.snd_nxt + _APART) & _MASK)
        removal.end(net, connection)
        return start
    if flags & ACK or stale:
        begin(net, connection)
    _say(net, connection, arrival)
    return None


def _waits_for_fin(net: Net, connection: Connection, arrival: Arrival, *, stale: bool) -> None:
    flags, nxt = arrival.flags, connection.rcv_nxt
    edge = connection.offered_edge
    seen = arrival.seq == nxt or (before(nxt, arrival.end) and before(arrival.seq, edge))
    if stale or not (seen or arrival.seq == edge == arrival.end):
        if not flags & RST:
            _say(net, connection, arrival)
        return
    if flags & RST:
        removal.end(net, connection)
        return
    if flags & SYN and not before(arrival.seq, nxt):
        _refuse(net, connection, arrival)
        return
    if not flags & ACK or not before(nxt, arrival.end) or not arrival.length:
        return
    if not flags & FIN or arrival.end != add(nxt, 1):
        _refuse(net, connection, arrival)
        return
    connection.rcv_nxt = arrival.end
    connection.feed(Input.FIN_ARRIVED)
    output.acknowledge(net, connection)
    begin(net, connection)


def _refuse(net: Net, connection: Connection, arrival: Arrival) -> None:
    """No connection takes it (TCP_TW_RST)."""
    net.reset(arrival)
    removal.end(net, connection)


def _say(net: Net, connection: Connection, arrival: Arrival) -> None:
    if not first_window.was_answered(net, connection, arrival):
        output.acknowledge(net, connection)
