"""What getsockopt(TCP_INFO) tells of a socket (tcp_get_info)."""

from __future__ import annotations

from dataclasses import dataclass

from segue.model.connection import Connection
from segue.model.listener import Listener
from segue.model.net import Net
from segue.model.request import STAMPS_SIZE
from segue.model.states import Congestion, State
from segue.wire.seq import distance


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """The fields by the kernel's names, without tcpi_; the times are in seconds.

    A listener has only ``unacked`` and ``sacked``: its accept queue and its backlog.  ``rtt`` is 0
    before the first round trip was measured.
    """

    state: State
    unacked: int = 0  # segments in flight
    sacked: int = 0
    timestamps: bool = False
    sack: bool = False
    snd_wscale: int = 0
    rcv_wscale: int = 0
    snd_mss: int = 0
    advmss: int = 0
    pmtu: int = 0
    retransmits: int = 0  # timeouts since something was acknowledged
    probes: int = 0
    backoff: int = 0
    rto: float = 0.0
    rtt: float = 0.0
    snd_cwnd: int = 0
    snd_ssthresh: int = 0
    bytes_acked: int = 0
    bytes_received: int = 0
    notsent_bytes: int = 0
    syn_data: bool = False  # some came with the SYN and was taken (TCPI_OPT_SYN_DATA)
    delivered: int = 0  # segments
    ca_state: Congestion = Congestion.OPEN
    lost: int = 0
    retrans: int = 0  # segments in flight that were sent again
    reordering: int = 3


def of(net: Net, sock: Listener | Connection) -> TcpInfo:
    """At this instant."""
    if isinstance(sock, Listener):
        return TcpInfo(sock.state, len(sock.queue), sock.backlog if sock.listening else 0)
    terms, waiting = sock.terms, distance(sock.snd_nxt, sock.end)
    if sock.fin_wanted and not sock.fin_sent:
        waiting += 1
    return TcpInfo(
        state=sock.state,
        unacked=len(sock.flying),
        timestamps=terms.stamps,
        sack=terms.sack,
        snd_wscale=terms.scale_out,
        rcv_wscale=terms.scale_in or 0,
        snd_mss=sock.full_size,
        advmss=terms.our_mss - (STAMPS_SIZE if terms.stamps and sock.request is None else 0),
        pmtu=net.mtu,
        retransmits=sock.timeouts,
        probes=sock.probes,
        backoff=sock.backoff,
        rto=sock.rto,
        rtt=sock.srtt or 0.0,
        snd_cwnd=sock.cwnd,
        snd_ssthresh=sock.ssthresh,
        bytes_acked=sock.acked,
        bytes_received=sock.received,
        notsent_bytes=max(0, waiting),
        syn_data=sock.syn_data,
        delivered=sock.delivered,
        ca_state=sock.congestion,
        sacked=sum(one.sacked for one in sock.flying) + sock.presumed,
        lost=sum(one.lost for one in sock.flying),
        reordering=sock.reordering,
        retrans=sum(one.again for one in sock.flying),
    )
