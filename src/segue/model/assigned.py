"""A connection without a handshake: it is made from a segment, with what somebody says was agreed.

Stands for bpf_sk_assign_tcp_reqsk (Linux 6.9), with which a classifier gives a segment to the
listeners as the last of a handshake, and for what cookie_v4_check then does with it.  ``forget`` is
the other half of a carry: TCP_REPAIR and a disconnect.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from segue.model import handshake, removal
from segue.model.arrival import Arrival
from segue.model.connection import Connection
from segue.model.listener import Listener
from segue.model.net import Net
from segue.model.request import Request, Terms, offer
from segue.wire.options import Options
from segue.wire.seq import add

_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Attributes:
    """What was agreed in the handshake that is not there (struct bpf_tcp_req_attrs).

    ``peer_stamp`` and ``own_stamp`` are the last timestamp of the peer, and ours of this instant.
    """

    mss: int
    scale_in: int  # of the windows that we offer
    scale_out: int
    scaling: bool
    sack: bool
    stamps: bool
    ecn: bool = False
    peer_stamp: int = 0
    own_stamp: int = 0


def attributes(net: Net, connection: Connection) -> Attributes:
    """Those with which it can be made again at this instant."""
    terms = connection.terms
    return Attributes(
        mss=terms.mss,
        scale_in=terms.scale_in or 0,
        scale_out=terms.scale_out,
        scaling=terms.scale_in is not None,
        sack=terms.sack,
        stamps=terms.stamps,
        ecn=terms.ecn,
        peer_stamp=connection.ts_recent,
        own_stamp=net.stamp(connection.ts_offset),
    )


def arrived(net: Net, listener: Listener, arrival: Arrival, said: Attributes, number: int) -> None:
    """An ACK makes a child of the listener; or is dropped, where its queue is full.

    ``number`` is the hash of the flow.
    """
    if handshake.refused_when_full(net, listener):
        return
    request = Request(
        cookie=next(net.cookies),
        path=arrival.path,
        flow=arrival.flow,
        hash=number,
        listener=listener,
        irs=add(arrival.seq, -1),
        iss=add(arrival.ack, -1),
        terms=_terms(net, listener, said, ipv6=arrival.path.is_ipv6),
        ts_recent=said.peer_stamp,
        ts_offset=(said.own_stamp - net.stamp(0)) & _MASK,
        due=inf,
    )
    handshake.adopt(net, request, listener, arrival)


def _terms(net: Net, listener: Listener, said: Attributes, *, ipv6: bool) -> Terms:
    """As after a SYN, but for our own scale, which the peer knows, and the first window."""
    options = Options(
        mss=said.mss,
        window_scale=said.scale_out if said.scaling else None,
        sack_permitted=said.sack,
        stamps=(said.peer_stamp, 0) if said.stamps else None,
    )
    own, sysctls = listener.options, net.sysctls
    terms = Terms.of(options, ipv6=ipv6, mtu=net.mtu, options=own, sysctls=sysctls)
    terms.ecn = said.ecn
    terms.scale_in = said.scale_in if said.scaling else None
    # Of whole segments of the peer's size, without a look at what its stamps take.
    terms.window, _ = offer(
        said.mss, scaling=said.scaling, sysctls=sysctls, buffer=own.get("SO_RCVBUF", 0)
    )
    return terms


def forget(net: Net, connection: Connection) -> None:
    """It is out of the tables without a word to its peer, and whoever has it reads an end."""
    removal.end(net, connection)
    connection.incoming = bytearray()
    connection.receive_shut = connection.fin_wanted = True
