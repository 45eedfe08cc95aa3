"""What a handshake asks of every segment before it looks at its flags (tcp_check_req)."""

from __future__ import annotations

from segue.model.arrival import Arrival
from segue.model.connection import Connection
from segue.model.durations import OUT_OF_WINDOW_PAUSE, backed_off
from segue.model.net import Net
from segue.model.request import Request
from segue.wire.options import aligned_stamps
from segue.wire.seq import Seq, add, before
from segue.wire.tcp import ACK, RST, SYN

_RECENT = 60.0  # TCP_PAWS_MSL


def is_stale(request: Request, arrival: Arrival) -> bool:
    """Its stamp is older than the SYN's.

    Of a reset that counts too, unless the SYN is a minute old, which Linux reckons from the timeout
    of the SYN-ACK (tcp_paws_reject).
    """
    stamps = arrival.options.stamps if request.terms.stamps else None
    if stamps is None or (arrival.flags & RST and backed_off(request.timeouts) >= _RECENT):
        return False
    return before(Seq(stamps[0]), Seq(request.ts_recent))


def is_within(request: Request, arrival: Arrival, first: Seq) -> bool:
    """Some of it is in the window that begins with the next number expected (tcp_in_window)."""
    if arrival.seq == first:
        return True
    edge = add(first, request.terms.window)
    if before(first, arrival.end) and before(arrival.seq, edge):
        return True
    return arrival.seq == edge and arrival.seq == arrival.end


def was_answered(net: Net, held: Request | Connection, arrival: Arrival) -> bool:
    """One like it was answered a moment ago, so that this one is not, lest two sides answer each
    other for ever; what has data or a FIN is always answered (tcp_oow_rate_limited).
    """
    if arrival.length and not arrival.flags & SYN:
        return False
    if net.now - held.answered_at < OUT_OF_WINDOW_PAUSE:
        return True
    held.answered_at = net.now
    return False


def answer(net: Net, request: Request, arrival: Arrival, seq: Seq, first: Seq) -> bool:
    """Say where we stand to what is not; False when it was not said, since it was a moment ago."""
    if was_answered(net, request, arrival):
        return False
    terms = request.terms
    said = b""
    if terms.stamps:
        said = aligned_stamps(net.stamp(request.ts_offset), request.ts_recent)
    net.send(request.path, seq, first, ACK, terms.window >> (terms.scale_in or 0), said)
    return True


def challenge(net: Net, request: Request, arrival: Arrival, seq: Seq, first: Seq) -> None:
    """Ask whether a reset is meant: only the exact number is believed (RFC 5961, 3.2), since others
    might be a blind guess.  The child's own challenges are counted apart
    (tcp_reqsk_send_challenge_ack).
    """
    if answer(net, request, arrival, seq, first):
        net.counts["TCPChallengeACK"] += 1
