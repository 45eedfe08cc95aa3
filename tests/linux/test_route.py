"""Addresses and routes, by what the kernel then does."""

from __future__ import annotations

import socket

import pytest

from segue.errors import KernelError, UsageError
from segue.linux import route
from segue.linux.tun import Tun

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("netns")]


def reach(target: str) -> None:
    """Send a datagram there, into whatever takes it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as user:
        user.sendto(b"x", (target, 9))


def test_a_route_leads_to_its_interface() -> None:
    """Unreachable before; the longer prefix decides between two."""
    with Tun() as wide, Tun() as narrow:
        wide.configure("10.9.0.1/24")
        narrow.configure("10.10.0.1/24")
        for tun in (wide, narrow):
            while tun.read():  # what the kernel says of itself
                pass
        with pytest.raises(OSError, match="unreachable"):
            reach("198.51.100.7")
        route.add_route("198.51.0.0/16", wide.name)
        route.add_route("198.51.100.0/24", narrow.name)
        reach("198.51.100.7")
        reach("198.51.101.7")
        for tun, target in ((narrow, "198.51.100.7"), (wide, "198.51.101.7")):
            packets = [packet for packet in iter(tun.read, None) if packet[0] >> 4 == 4]
            assert [socket.inet_ntoa(packet[16:20]) for packet in packets] == [target]


def test_what_the_kernel_refuses_is_said() -> None:
    """With its errno and advice; an interface that is not there is the caller's error."""
    with Tun("down0"):
        with pytest.raises(KernelError, match=r"routing 0\.0\.0\.0/0 to down0") as refused:
            route.add_route("0.0.0.0/0", "down0")
        assert refused.value.name == "ENETDOWN"
        assert "set the interface up first" in str(refused.value)
    for use in (
        lambda: route.add_route("0.0.0.0/0", "none0"),
        lambda: route.add_address("none0", "10.9.0.1/24"),
        lambda: route.dropped("none0"),
    ):
        with pytest.raises(UsageError, match="no interface 'none0'"):
            use()


def test_drops_are_those_of_one_interface() -> None:
    """A queue of two takes two packets."""
    with Tun() as small, Tun() as large:
        small.configure("10.9.0.1/24", queue=2)
        large.configure("10.10.0.1/24")
        before = route.dropped(small.name)
        for _ in range(20):
            reach("10.9.0.7")
            reach("10.10.0.7")
        assert route.dropped(small.name) - before >= 20 - 2 - 2
        assert route.dropped(large.name) == 0
