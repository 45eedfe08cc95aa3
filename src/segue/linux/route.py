"""Addresses, routes and an interface's own losses (rtnetlink(7)).

All of the calling thread's network namespace.  Narrow on purpose: adding, and addresses of IPv4.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import sys

from segue.errors import KernelError, UsageError
from segue.linux.netlink import Netlink, attributes, encode_attribute

_NETLINK_ROUTE = 0
_RTM_GETLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 18, 20, 24
_IFINFO = struct.Struct("=BxHiII")  # mirrors struct ifinfomsg
_IFADDR = struct.Struct("=BBBBI")  # mirrors struct ifaddrmsg
_RTMSG = struct.Struct("=BBBBBBBBI")  # mirrors struct rtmsg
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF = 1, 4
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_LINK, _RTN_UNICAST = 254, 4, 253, 1
_IFLA_STATS64 = 23
_TX_DROPPED = struct.Struct("=56xQ")  # rtnl_link_stats64.tx_dropped is the eighth of the numbers

_ADVICE = {
    errno.EPERM: "it needs CAP_NET_ADMIN in this network namespace",
    errno.EEXIST: "it is there already",
    errno.ENETDOWN: "set the interface up first",
}


def _add(kind: int, payload: bytes, doing: str) -> None:
    with Netlink(_NETLINK_ROUTE) as route:
        try:
            route.request(kind, payload, doing, acknowledged=True, create=True)
        except KernelError as error:
            error.advice = _ADVICE.get(error.errno or 0, "")
            raise


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        raise UsageError(f"there is no interface {interface!r} in this namespace") from None


def add_address(interface: str, address: str) -> None:
    """Give an interface one more IPv4 address, such as 10.9.0.7/16.

    Raises KernelError: EEXIST when it has that one already; UsageError for an unknown interface.
    """
    asked = ipaddress.IPv4Interface(address)
    payload = _IFADDR.pack(socket.AF_INET, asked.network.prefixlen, 0, 0, _index(interface))
    payload += encode_attribute(_IFA_LOCAL, asked.packed)
    payload += encode_attribute(_IFA_ADDRESS, asked.packed)
    _add(_RTM_NEWADDR, payload, f"giving {interface} the address {address}")


def add_route(destination: str, interface: str) -> None:
    """Send what is for a network out of an interface that is up; 0.0.0.0/0 and ::/0 are all.

    There is no gateway: who is meant is found at the interface's other end.  A second route of
    the same destination is another one behind the first.  Raises KernelError, and UsageError for
    an unknown interface.
    """
    network = ipaddress.ip_network(destination)
    payload = _RTMSG.pack(
        socket.AF_INET if network.version == 4 else socket.AF_INET6, network.prefixlen, 0, 0,
        _RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_LINK, _RTN_UNICAST, 0,
    )  # fmt: skip
    if network.prefixlen:
        payload += encode_attribute(_RTA_DST, network.network_address.packed)
    payload += encode_attribute(_RTA_OIF, _index(interface).to_bytes(4, sys.byteorder))
    _add(_RTM_NEWROUTE, payload, f"routing {destination} to {interface}")


def dropped(interface: str) -> int:
    """Packets that the interface itself threw away on their way out, as a full queue makes it.

    Raises KernelError, and UsageError for an unknown interface.
    """
    payload = _IFINFO.pack(socket.AF_UNSPEC, 0, _index(interface), 0, 0)
    with Netlink(_NETLINK_ROUTE) as route:
        answer = route.request(_RTM_GETLINK, payload, f"looking at {interface}")
    for kind, value in attributes((answer or memoryview(b""))[_IFINFO.size :]):
        if kind == _IFLA_STATS64:
            count: int = _TX_DROPPED.unpack_from(value)[0]
            return count
    return 0
