"""A connection's timers: what was not acknowledged, what is to be, and when it is over."""

from __future__ import annotations

import errno
from math import inf

from segue.model import acknowledging, keepalive, output, recovery, removal
from segue.model.connection import Connection
from segue.model.durations import RTO_MAX, backed_off
from segue.model.events import Fired, Timer
from segue.model.net import Net
from segue.model.states import FIN_WAIT2
from segue.wire.seq import add, before
from segue.wire.tcp import ACK


def timer(net: Net, connection: Connection) -> None:
    """Its time has come, for one thing or several."""
    now = net.now
    if connection.end_at <= now:
        _fired(net, connection, Timer.END)
        if connection.whole and connection.state is FIN_WAIT2:
            output.abort(net, connection)  # tcp_keepalive_timer
        removal.end(net, connection)
        return
    if connection.ack_at <= now:
        _fired(net, connection, Timer.DELAYED_ACK)
        acknowledging.timer(net, connection)
    if connection.reordering_at <= now:
        recovery.timer(net, connection)
    if connection.retransmit_at <= now:
        connection.retransmit_at = inf
        _retransmit(net, connection)
    if connection.keep_at <= now and not connection.over:
        keepalive.timer(net, connection)
    if not connection.over:
        output.rearm(net, connection)


def _fired(net: Net, connection: Connection, which: Timer) -> None:
    net.events.append(Fired(connection.cookie, which))


def _retransmit(net: Net, connection: Connection) -> None:
    if connection.request is not None:
        _repeat_syn_ack(net, connection)
        return
    if not before(connection.snd_una, connection.snd_nxt):
        if connection.unsent:
            _fired(net, connection, Timer.WINDOW_PROBE)
            _probe(net, connection)
        return
    if _tail_probe(net, connection):
        return
    _fired(net, connection, Timer.RETRANSMISSION)
    if not connection.snd_wnd and not connection.orphan:
        _repeat_into_shut_window(net, connection)
        return
    net.counts["TCPTimeouts"] += 1
    retries = net.sysctls.tcp_orphan_retries if connection.orphan else net.sysctls.tcp_retries2
    if connection.timeouts >= retries or _out_of_time(net, connection):
        removal.end(net, connection, errno.ETIMEDOUT)
        return
    if not connection.timeouts:
        connection.repeating_since = net.now
    recovery.timeout(net, connection)
    connection.timeouts += 1
    connection.backoff += 1
    output.repeat(net, connection)
    output.whole_timeout(net, connection)
    connection.retransmit_at = min(connection.retransmit_at, _end_of_time(connection))


def _repeat_into_shut_window(net: Net, connection: Connection) -> None:
    """The peer has taken its window back: what is repeated is a question about it, which is asked
    as long as the peer answers (tcp_retransmit_timer).
    """
    patience = connection.options.get("TCP_USER_TIMEOUT", 0) / 1000 or 2 * RTO_MAX
    if net.now - connection.acked_at > patience:
        removal.end(net, connection, errno.ETIMEDOUT)
        return
    recovery.timeout(net, connection)
    connection.backoff += 1
    output.repeat(net, connection)
    output.whole_timeout(net, connection)


def _end_of_time(connection: Connection) -> float:
    """When TCP_USER_TIMEOUT has passed since the first timeout (tcp_clamp_rto_to_user_timeout)."""
    patience = connection.options.get("TCP_USER_TIMEOUT", 0) / 1000
    if not patience or connection.repeating_since is None:
        return inf
    return connection.repeating_since + patience


def _out_of_time(net: Net, connection: Connection) -> bool:
    return net.now >= _end_of_time(connection)


def _tail_probe(net: Net, connection: Connection) -> bool:
    """With SACK the first repetition is a question, and no sign of congestion (RFC 8985, 7).

    What was held back asks it, or else the last segment that was sent: its answer tells of all
    before it.
    """
    if not connection.short:
        return False
    if connection.probe_end is not None:
        # One question at a time, until its answer has told whether it has repaired a loss.
        output.await_timeout(net, connection)
        return True
    connection.probe_repeats = not output.held_back(net, connection)
    if connection.probe_repeats and not output.repeat_tail(net, connection):
        output.await_timeout(net, connection)
        return True
    _fired(net, connection, Timer.TAIL_PROBE)
    net.counts["TCPLossProbes"] += 1
    connection.probe_end = connection.snd_nxt
    output.whole_timeout(net, connection)
    return True


def _probe(net: Net, connection: Connection) -> None:
    """Ask a peer whose window is too small with what fits, or, where it is shut, without data.

    A peer that answers may keep it shut for ever (RFC 9293, 3.8.6.1), if there still is a program.
    """
    most, gone = net.sysctls.tcp_retries2, False
    if connection.orphan:
        most = net.sysctls.tcp_orphan_retries
        gone = connection.rto * (1 << connection.backoff) >= RTO_MAX
    if connection.repeating_since is None:
        connection.repeating_since = net.now
    if gone or connection.probes >= most or _out_of_time(net, connection):
        removal.end(net, connection, errno.ETIMEDOUT)
        return
    if output.fill(net, connection):
        connection.backoff = connection.probes = 0
    else:
        connection.probes += 1
        connection.backoff = min(connection.backoff + 1, net.sysctls.tcp_retries2)
        output.segment(net, connection, add(connection.snd_una, -1), ACK)
    # What fills a window is followed by a timeout, too, and not by a question about the tail.
    output.whole_timeout(net, connection)
    connection.retransmit_at = min(connection.retransmit_at, _end_of_time(connection))


def _repeat_syn_ack(net: Net, connection: Connection) -> None:
    """Of a Fast Open child, once more often than of others (tcp_fastopen_synack_timer)."""
    request = connection.request
    assert request is not None
    _fired(net, connection, Timer.SYN_ACK)
    net.counts["TCPTimeouts"] += 1
    retries = connection.options.get("TCP_SYNCNT") or net.sysctls.tcp_synack_retries + 1
    if request.timeouts >= retries:
        removal.end(net, connection, errno.ETIMEDOUT)
        return
    request.timeouts += 1
    request.retransmitted = True
    net.counts["TCPSynRetrans"] += 1
    output.syn_ack(net, request)
    connection.retransmit_at = net.after(backed_off(request.timeouts))
