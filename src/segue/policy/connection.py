"""What ``conn`` says, each part as a function in the policy language over the raw context.

``md`` is struct sk_reuseport_md: its fields, ``migrating_sk`` or None (struct bpf_sock), the
segment from its TCP header on (``packet``), the packet from its IP header on (``network``).  A new
connection is known by its SYN; one that migrates by its own socket, since a child and a request
whose timer ran out come without a segment (FACTS, question).
"""

from __future__ import annotations

from typing import Any

from segue.policy.integers import u32
from segue.policy.language import Migrating

ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
AF_INET6 = 10
TCP_ESTABLISHED = 1
TCP_SYN_RECV = 3
TCP_NEW_SYN_RECV = 12
_MAPPED = 0xFFFF  # the third word of an IPv4 address as IPv6 shows it (RFC 4291, 2.5.5.2)


def migrating(md: Any) -> Any:
    """By the state of its socket; a child may have been sent a FIN, and be in a later one."""
    sk = md.migrating_sk
    if sk is None:
        return Migrating.NO
    state = sk.state
    if state == TCP_NEW_SYN_RECV:
        return Migrating.REQUEST
    if state == TCP_SYN_RECV:
        return Migrating.FASTOPEN
    return Migrating.CHILD


def ipv6(md: Any) -> Any:
    """The client speaks IPv6: one of IPv4 at a listener for both does not."""
    sk = md.migrating_sk
    if sk is None:
        return md.eth_protocol == ETH_P_IPV6
    if sk.family != AF_INET6:
        return False
    return not (sk.dst_ip6_0 == 0 and sk.dst_ip6_1 == 0 and sk.dst_ip6_2 == _MAPPED)


def _ip4(md: Any, offset: Any) -> Any:
    if md.eth_protocol != ETH_P_IP:
        return u32(0)
    found = md.network(offset, 4)
    if found is None:
        return u32(0)
    return found


def _ip6(md: Any, offset: Any) -> Any:
    if md.eth_protocol != ETH_P_IPV6:
        return u32(0)
    found = md.network(offset, 4)
    if found is None:
        return u32(0)
    return found


def remote_ip4(md: Any) -> Any:
    """0 when the client speaks IPv6."""
    sk = md.migrating_sk
    if sk is None:
        return _ip4(md, 12)
    if ipv6(md):
        return u32(0)
    return sk.dst_ip4


def local_ip4(md: Any) -> Any:
    """0 when the client speaks IPv6."""
    sk = md.migrating_sk
    if sk is None:
        return _ip4(md, 16)
    if ipv6(md):
        return u32(0)
    return sk.src_ip4


def remote_ip6(md: Any, word: Any) -> Any:
    """One of four words; 0 when the client speaks IPv4."""
    sk = md.migrating_sk
    if sk is None:
        return _ip6(md, 8 + word * 4)
    if not ipv6(md):
        return u32(0)
    return sk.dst_ip6(word)


def local_ip6(md: Any, word: Any) -> Any:
    """One of four words; 0 when the client speaks IPv4."""
    sk = md.migrating_sk
    if sk is None:
        return _ip6(md, 24 + word * 4)
    if not ipv6(md):
        return u32(0)
    return sk.src_ip6(word)


def remote_port(md: Any) -> Any:
    """The client's."""
    sk = md.migrating_sk
    if sk is not None:
        return sk.dst_port
    port = md.packet(0, 2)
    if port is None:
        return u32(0)
    return port


def local_port(md: Any) -> Any:
    """The listener's."""
    sk = md.migrating_sk
    if sk is not None:
        return sk.src_port
    port = md.packet(2, 2)
    if port is None:
        return u32(0)
    return port


def protocol(md: Any) -> Any:
    """IPPROTO_TCP is 6."""
    return md.ip_protocol


def flow_label(md: Any) -> Any:
    """Of the segment in hand; 0 without one, and for IPv4."""
    return _ip6(md, 0) & 0xFFFFF


def tcp_flags(md: Any) -> Any:
    """Of the segment in hand; 0 without one."""
    flags = md.packet(13, 1)
    if flags is None:
        return u32(0)
    return flags


def options_length(md: Any) -> Any:
    """Bytes of TCP options in the segment in hand; 0 without one."""
    offset = md.packet(12, 1)
    if offset is None:
        return u32(0)
    return (offset >> 4) * 4 - 20


def bind_inany(md: Any) -> Any:
    """The group listens on every address."""
    return md.bind_inany != 0
