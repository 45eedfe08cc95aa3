"""Which packets belong to a handshake: predicates for holds."""

from __future__ import annotations

from segue.wire import ipv4
from segue.wire.tcp import ACK, SYN, segment_in

_Flow = tuple[bytes, bytes, int, int]


class AfterSyn:
    """All that a client sends after its SYN, on connections whose SYN came by.

    Held, it keeps their requests half-open: data would end a handshake as well as the final ACK
    does, and so would an ACK that is repeated.  Connections from before are not matched.
    """

    def __init__(self) -> None:
        self._flows: set[_Flow] = set()

    def __call__(self, packet: bytes) -> bool:
        """Whether it is one; a SYN is remembered."""
        segment = segment_in(packet)
        if segment is None:
            return False
        carrier = ipv4.Packet(packet)
        flow = (carrier.source_bytes, carrier.target_bytes, segment.sport, segment.dport)
        if segment.flags & SYN:
            self._flows.add(flow)
            return False
        return flow in self._flows


def is_syn_ack(packet: bytes) -> bool:
    """A server's answer to a client's first packet."""
    segment = segment_in(packet)
    return segment is not None and segment.flags & (SYN | ACK) == SYN | ACK
