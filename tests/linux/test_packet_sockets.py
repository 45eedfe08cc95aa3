"""Packet sockets: the text of the kernel's list, and that a real one is in it."""

from __future__ import annotations

import socket

import pytest

from segue.errors import WireError
from segue.linux import packet_sockets
from segue.linux.packet_sockets import IP, PacketSocket

_HEAD = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"
_ALL, _IPV4 = 3, 0x0800


def test_those_that_run_are_listed() -> None:
    """A socket that was made for no protocol gets nothing, and is left out."""
    text = (
        f"{_HEAD}0000000000000000 3      3    0800   2     1 0      0      7\n"
        "0000000000000000 3      2    0003   0     1 9      0      8\n"
        "0000000000000000 3      3    0000   0     0 0      0      9\n"
    )
    assert list(packet_sockets.parse(text)) == [PacketSocket(_IPV4, 2), PacketSocket(_ALL, 0)]
    assert list(packet_sockets.parse("")) == []


@pytest.mark.parametrize("line", ["0 3 3\n", "0 3 3 08x0 2 1 0 0 7\n", "0 3 3 0800 lo 1 0 0 7\n"])
def test_another_line_is_refused(line: str) -> None:
    """Nothing is made of what is not understood."""
    with pytest.raises(WireError, match="packet sockets"):
        list(packet_sockets.parse(_HEAD + line))


def test_one_for_all_protocols_has_not_asked_by_name() -> None:
    """What tcpdump opens gets a copy before IP does, and takes nothing from it."""
    assert PacketSocket(_IPV4, 0).takes(IP, 1)
    assert PacketSocket(0x86DD, 1).takes(IP, 1)
    assert not PacketSocket(_IPV4, 2).takes(IP, 1)
    assert not PacketSocket(_ALL, 1).takes(IP, 1)


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_a_real_one_is_listed_until_it_is_closed() -> None:
    """In the network namespace of this thread."""
    assert packet_sockets.read() == []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_IPV4)) as made:
        assert packet_sockets.read() == [PacketSocket(_IPV4, 0)]
        made.bind(("lo", _IPV4))
        assert packet_sockets.read() == [PacketSocket(_IPV4, socket.if_nametoindex("lo"))]
    assert packet_sockets.read() == []
