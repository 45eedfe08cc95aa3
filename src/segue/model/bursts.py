"""How much goes at once, and what waits for an ACK that will make room for more (tcp_write_xmit,
tcp_tso_should_defer).
"""

from __future__ import annotations

from segue.model.buffers import LARGEST
from segue.model.connection import Connection
from segue.model.net import Net
from segue.model.states import Congestion
from segue.wire.seq import distance

_RECENTLY = 0.00099  # since the last packet; from a millisecond on nothing waits
_SOON = 0.001  # until the ACK that is waited for
_SHARE = 3  # of the window, which may go at once (tcp_tso_win_divisor)
_A_MOMENT = 1 / 1024  # what is sent at once would take so long at its pace (sk_pacing_shift)
_TIMES_NEAR = 1 << 9  # microseconds, from which near peers are told (tcp_tso_rtt_log)


def size(net: Net, connection: Connection) -> int:
    """Segments: what the pace gives for a moment, and more to a near peer (tcp_tso_autosize)."""
    most, segment = LARGEST, connection.full_size
    if connection.srtt:
        slow_start = connection.cwnd < connection.ssthresh // 2
        window = segment * max(connection.cwnd, len(connection.flying))
        rate = window * (2.0 if slow_start else 1.2) / connection.srtt
        near = min(int(connection.least_rtt * 1_000_000) // _TIMES_NEAR, 64)
        most = min(int(rate * _A_MOMENT) + (LARGEST >> near), LARGEST)
    return max(most // segment, net.sysctls.tcp_min_tso_segs)


def room(connection: Connection, flying: int, most: int) -> int:
    """Segments that may go at once: at most half of the window (tcp_cwnd_test)."""
    return min(max(connection.cwnd >> 1, 1), connection.cwnd - flying, most)


def waits(net: Net, connection: Connection, flying: int, most: int, buffer: int) -> bool:
    """A little more room may come soon: the rest goes with it."""
    recent = net.now - connection.wrote_at < _RECENTLY
    if not recent or not connection.flying or connection.congestion >= Congestion.RECOVERY:
        return False
    at, segment = connection.snd_nxt, connection.full_size
    by_peer = connection.snd_wnd - distance(connection.snd_una, at)
    by_way = (connection.cwnd - flying) * segment
    limit = min(by_peer, by_way)
    window = min(connection.snd_wnd, connection.cwnd * segment)
    if limit >= min(most * segment, window // _SHARE):
        return False
    left = distance(at, connection.end)
    if buffer < left and limit >= buffer:
        return False
    srtt = connection.srtt or 0.0
    until_ack = connection.flying[0].sent_at + srtt - net.now
    if until_ack > min(srtt / 2, _SOON):
        return False
    return limit <= buffer or not (connection.fin_wanted and buffer == left)
