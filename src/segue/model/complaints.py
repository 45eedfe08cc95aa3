"""What routers and hosts say by ICMP of segments that were sent (tcp_v4_err, tcp_v6_err)."""

from __future__ import annotations

from segue.model import migration, output, recovery
from segue.model.connection import Connection, Flight
from segue.model.net import Net
from segue.model.request import Request
from segue.model.states import Congestion
from segue.wire import icmp
from segue.wire.icmp import Complaint
from segue.wire.seq import Seq, add, before, distance

_HEADERS = {4: 40, 6: 60}
_LEAST = {4: 552, 6: 1280}  # that is believed of a way (ip_rt_min_pmtu; RFC 8200, 5)
# Of the codes of "unreachable", those that end a handshake.
_ENDS = {4: {0, 1}, 6: {1, 4, 5, 6}}


def arrived(net: Net, told: Complaint) -> None:
    """It counts only if it quotes what is in flight; then a handshake may end, and segments may
    have to be smaller.
    """
    half = len(told.quoted) // 2
    flow = told.quoted[half:] + told.quoted[:half] + told.ports[2:] + told.ports[:2]
    there, seq = net.flows.get(flow), Seq(told.seq)
    if isinstance(there, Request):
        if seq != there.iss:
            net.counts["OutOfWindowIcmps"] += 1
        elif told.kind == icmp.UNREACHABLE[told.version] and told.code in _ENDS[told.version]:
            migration.drop(net, there)
            net.counts["ListenDrops"] += 1
    elif there is not None:
        first = there.request.iss if there.request is not None else there.snd_una
        if before(seq, first) or before(there.snd_nxt, seq):
            net.counts["OutOfWindowIcmps"] += 1
        elif there.request is None and _is_too_big(told):
            _smaller(net, there, max(told.mtu, _LEAST[told.version]) - _HEADERS[told.version])


def _is_too_big(told: Complaint) -> bool:
    if told.version == 6:
        return told.kind == icmp.TOO_BIG
    unreachable = told.kind == icmp.UNREACHABLE[4]
    return unreachable and told.code == icmp.FRAGMENTATION_NEEDED


def _smaller(net: Net, connection: Connection, mss: int) -> None:
    """What was too big is sent again in pieces, and it is no sign of congestion
    (tcp_simple_retransmit).
    """
    if mss >= connection.terms.mss:
        return
    connection.terms.mss = mss
    connection.reckon_sizes()
    size, pieces = connection.full_size, list(connection.flying)
    if not any(distance(one.start, one.end) > size for one in pieces):
        return
    connection.flying.clear()
    for one in pieces:
        lost = distance(one.start, one.end) > size and not one.sacked
        at = one.start
        while lost and distance(at, one.end) > size:
            connection.flying.append(Flight(at, add(at, size), one.sent_at, lost=True))
            at = add(at, size)
        one.start, one.lost = at, one.lost or lost
        connection.flying.append(one)
    if connection.congestion is not Congestion.LOSS:
        connection.high_seq = connection.snd_nxt
        connection.congestion = Congestion.LOSS
    recovery.repeat(net, connection)
    output.rearm(net, connection)
