"""Whole packets sent from here to here."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from tests.linux.unprivileged import as_nobody
from tests.waiting import PATIENCE

from segue.errors import KernelError
from segue.linux import sysctl
from segue.linux.raw_ip import RawIp
from segue.wire import ipv4, ipv6

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    ("source", "target"), [("198.51.100.7", "127.0.0.1"), ("2001:db8::7", "::1")]
)
def test_a_packet_arrives_whoever_it_is_from(netns: int, source: str, target: str) -> None:
    """From an address that is not ours, through a strict reverse path filter, with its class."""
    for name in ("all", "lo"):
        sysctl.write(f"net.ipv4.conf.{name}.rp_filter", "1")
    addresses = b"".join(ipaddress.ip_address(one).packed for one in (source, target))
    six = ":" in target
    payload = bytes.fromhex("0050 1f90 000c 0000") + b"data"  # UDP
    family = socket.AF_INET6 if six else socket.AF_INET
    emit = ipv6.emit if six else ipv4.emit
    with RawIp() as raw, socket.socket(family, socket.SOCK_RAW, 253) as seen:
        seen.settimeout(PATIENCE)
        if six:
            seen.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        raw.send(emit(addresses, 253, payload, tos=0x28), target)
        data, ancillary, _, where = seen.recvmsg(100, 100)
    assert where[0] == source
    assert data.endswith(payload)
    assert (ancillary[0][2][0] if six else data[1]) == 0x28


def test_the_kernel_refuses_what_makes_no_sense(netns: int) -> None:
    """Said with the target."""
    with RawIp() as raw, pytest.raises(KernelError, match=r"sending a packet to 127\.0\.0\.1"):
        raw.send(b"", "127.0.0.1")


def test_it_needs_a_capability(netns: int) -> None:
    """Said in the error."""

    def refused() -> None:
        with pytest.raises(KernelError, match="CAP_NET_RAW"):
            RawIp()

    as_nobody(refused)
