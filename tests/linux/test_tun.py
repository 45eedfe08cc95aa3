"""A TUN interface, with our end of the wire played by hand."""

from __future__ import annotations

import os
import select
import socket
import struct

import pytest
from tests.waiting import PATIENCE

from segue.errors import KernelError
from segue.linux.tun import Tun
from segue.wire import checksum

pytestmark = pytest.mark.usefixtures("netns")


def datagram(source: str, target: str, sport: int, dport: int, data: bytes) -> bytes:
    """An IPv4 packet with UDP in it, whose checksum of 0 means none."""
    udp = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, socket.IPPROTO_UDP, 0)
    head += socket.inet_aton(source) + socket.inet_aton(target)
    return head[:10] + struct.pack("!H", checksum.internet(head)) + head[12:] + udp


def next_datagram(tun: Tun) -> bytes:
    """The next IPv4 UDP packet; what the kernel says of itself (IPv6, IGMP) is passed over."""
    while select.select([tun], [], [], PATIENCE)[0]:
        packet = tun.read()
        if packet and packet[0] == 0x45 and packet[9] == socket.IPPROTO_UDP:
            return packet
    raise AssertionError("no packet within two seconds")


@pytest.mark.root
def test_packets_go_both_ways() -> None:
    """What is sent into the network is read, without a header before it; an answer arrives."""
    with Tun() as tun, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as user:
        tun.configure("10.9.0.1/24", mtu=1400)
        assert [name for _, name in socket.if_nameindex()] == ["lo", tun.name] == ["lo", "segue0"]
        user.settimeout(PATIENCE)
        user.sendto(b"out", ("10.9.0.7", 99))
        packet = next_datagram(tun)
        assert socket.inet_ntoa(packet[12:16]) == "10.9.0.1"
        assert socket.inet_ntoa(packet[16:20]) == "10.9.0.7"
        assert packet[28:] == b"out"
        port = user.getsockname()[1]
        tun.write(datagram("10.9.0.7", "10.9.0.1", 99, port, b"back"))
        assert user.recvfrom(100) == (b"back", ("10.9.0.7", 99))


def datagram6(source: str, target: str, sport: int, dport: int, data: bytes) -> bytes:
    """An IPv6 packet with UDP in it; the checksum is not optional there."""
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    length = 8 + len(data)
    udp = struct.pack("!HHHH", sport, dport, length, 0) + data
    pseudo = ends + struct.pack("!II", length, socket.IPPROTO_UDP)
    udp = udp[:6] + struct.pack("!H", checksum.internet(pseudo + udp)) + udp[8:]
    return struct.pack("!IHBB", 6 << 28, length, socket.IPPROTO_UDP, 64) + ends + udp


@pytest.mark.root
def test_ipv6_goes_both_ways() -> None:
    """The same with an IPv6 address, which is usable at once."""
    with Tun() as tun, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as user:
        tun.configure("fd09::1/64")
        user.settimeout(PATIENCE)
        user.sendto(b"out!", ("fd09::7", 99))
        packet = b""
        # What the kernel says of itself (ICMPv6) is passed over.
        while packet[6:7] != bytes([socket.IPPROTO_UDP]):
            assert select.select([tun], [], [], PATIENCE)[0]
            packet = tun.read() or b""
        assert packet[8:40] == b"".join(
            socket.inet_pton(socket.AF_INET6, one) for one in ("fd09::1", "fd09::7")
        )
        assert packet[48:] == b"out!"
        port = user.getsockname()[1]
        tun.write(datagram6("fd09::7", "fd09::1", 99, port, b"back"))
        assert user.recvfrom(100) == (b"back", ("fd09::7", 99, 0, 0))


@pytest.mark.root
def test_reading_never_waits() -> None:
    """None when no packet is there; the descriptor closes on exec."""
    with Tun("own7") as tun:
        assert tun.name == "own7"
        assert tun.read() is None
        assert not os.get_inheritable(tun.fileno())


@pytest.mark.root
def test_the_mask_and_the_mtu_are_taken() -> None:
    """A host beyond the mask has no route; a datagram longer than the MTU comes in pieces."""
    with Tun() as tun, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as user:
        tun.configure("10.9.0.1/30", mtu=1000)
        with pytest.raises(OSError, match="unreachable"):
            user.sendto(b"x", ("10.9.0.5", 99))
        user.sendto(b"x" * 1200, ("10.9.0.2", 99))
        assert len(next_datagram(tun)) <= 1000


@pytest.mark.root
def test_the_interface_goes_with_the_descriptor() -> None:
    """Closing removes it, and closing twice is no error."""
    tun = Tun("gone0")
    assert "gone0" in [name for _, name in socket.if_nameindex()]
    tun.close()
    tun.close()
    assert "gone0" not in [name for _, name in socket.if_nameindex()]


@pytest.mark.root
def test_what_the_kernel_refuses_is_said() -> None:
    """A taken name, a packet that is none, an interface that is down."""
    with Tun("one0") as tun:
        with pytest.raises(KernelError, match="another process has an interface of that name"):
            Tun("one0")
        with pytest.raises(KernelError, match="writing to one0") as refused:
            tun.write(b"\x00")
        assert refused.value.name in {"EINVAL", "EIO"}
        tun.name = "renamed0"
        with pytest.raises(KernelError, match=r"giving renamed0 the address 10.9.0.1/24"):
            tun.configure("10.9.0.1/24")
