"""IPv4 packets, against bytes that a kernel sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire import packets

from segue.errors import WireError
from segue.wire.ipv4 import TCP, Packet, parse


def test_the_fields_of_a_packet() -> None:
    """Captured: a SYN from 10.77.0.1 to 10.77.0.2."""
    packet = Packet(packets.SYN)
    assert (packet.source, packet.target) == ("10.77.0.1", "10.77.0.2")
    assert (packet.source_bytes, packet.target_bytes) == (b"\x0aM\0\1", b"\x0aM\0\2")
    assert (packet.protocol, packet.ttl, packet.length) == (TCP, 64, 60)
    assert packet.identification == 0x7B49
    assert not packet.fragmented
    assert packet.payload == packets.SYN[20:]


def test_a_fragment_is_known() -> None:
    """The first by its flag, the last by its offset."""
    assert Packet(packets.LAST_FRAGMENT).fragmented
    first = bytearray(packets.UDP)
    first[6] = 0x20
    assert Packet(bytes(first)).fragmented


def test_what_a_link_padded_is_no_payload() -> None:
    """Ethernet fills short packets up to 46 bytes."""
    assert Packet(packets.UDP + b"\0" * 15).payload == packets.UDP[20:]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "0 bytes are no header"),
        (packets.UDP[:19], "19 bytes are no header"),
        (b"\x60" + packets.UDP[1:], "version 6"),
        (b"\x44" + packets.UDP[1:], "header of 16"),
        (packets.UDP[:-1], "length 31, in 30 bytes"),
        (packets.UDP[:3] + b"\x13" + packets.UDP[4:], "length 19"),
    ],
)
def test_what_is_no_packet_is_refused(data: bytes, why: str) -> None:
    """Too short, another version, lengths that contradict one another."""
    for take in (Packet, parse):
        with pytest.raises(WireError, match=why):
            take(data)


def test_a_packet_taken_apart() -> None:
    """As a view sees it; what a host would drop is refused: fragments, and a damaged header."""
    packet = packets.HELLO
    seen = Packet(packet)
    addresses = seen.source_bytes + seen.target_bytes
    assert parse(packet) == (addresses, TCP, bytes(seen.payload))
    assert parse(packets.UDP + b"\0" * 15)[2] == packets.UDP[20:]
    with pytest.raises(WireError, match="a fragment"):
        parse(packets.LAST_FRAGMENT)
    with pytest.raises(WireError, match="wrong header checksum"):
        parse(packet[:8] + b"\x41" + packet[9:])


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda rest: b"\x46" + rest))
def test_any_bytes_are_a_packet_or_refused(data: bytes) -> None:
    """Nothing but WireError comes out, and a payload never reaches outside of the bytes."""
    try:
        packet = Packet(data)
    except WireError:
        return
    assert len(packet.payload) <= len(data) - 20
    assert packet.source.count(".") == 3
