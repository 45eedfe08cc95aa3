"""Packets that are made: the very bytes that a kernel sent, and files that tools open."""

from __future__ import annotations

import struct
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire import packets

from segue.errors import WireError
from segue.wire import checksum, ipv4, ipv6, pcap, tcp


@pytest.mark.parametrize("packet", [packets.SYN, packets.SYN_ACK, packets.FINAL_ACK, packets.HELLO])
def test_a_packet_taken_apart_and_made_again(packet: bytes) -> None:
    """Captured: every byte of it, both checksums among them."""
    addresses, protocol, body = ipv4.parse(packet)
    segment = tcp.emit(addresses, *tcp.parse(addresses, body))
    number = ipv4.Packet(packet).identification
    made = ipv4.emit(addresses, protocol, segment, identification=number)
    assert made == packet


@given(st.integers(0, 5000), st.randoms(use_true_random=False))
def test_a_sum_of_words(size: int, chance: Random) -> None:
    """Of any length: as if the words were added one by one, the last one padded."""
    data = chance.randbytes(size)
    padded = data + bytes(size & 1)
    plain = sum(number for (number,) in struct.iter_unpack("!H", padded))
    assert checksum.number(data) % 65535 == plain % 65535


@given(st.binary(min_size=20, max_size=99), st.integers(0, 98), st.integers(1, 255))
def test_a_changed_byte_does_not_agree(segment: bytes, at: int, by: int) -> None:
    """One byte wrong is always found, whatever the length."""
    addresses = bytes(range(8))
    summed = checksum.tcp(addresses, segment[:16] + b"\0\0" + segment[18:])
    whole = bytearray(segment[:16] + summed.to_bytes(2, "big") + segment[18:])
    assert checksum.tcp_agrees(addresses, bytes(whole))
    whole[at % len(whole)] ^= by
    assert not checksum.tcp_agrees(addresses, bytes(whole))


def test_an_ipv6_packet() -> None:
    """Made and read again; shorter than it says is refused, and so is another version."""
    addresses = bytes(15) + b"\1" + bytes(15) + b"\2"
    made = ipv6.emit(addresses, ipv4.TCP, b"payload")
    packet = ipv6.Packet(made)
    assert (packet.source, packet.target, packet.protocol) == ("::1", "::2", ipv4.TCP)
    assert bytes(packet.payload) == b"payload"
    assert ipv6.parse(made) == (addresses, ipv4.TCP, b"payload")
    for wrong in (made[:-1], made[:39], packets.SYN):
        with pytest.raises(WireError):
            ipv6.Packet(wrong)


def test_a_capture_file() -> None:
    """The magic of nanoseconds, raw IP, and a packet with its time and length."""
    assert struct.unpack("<I16xI", pcap.header()[:24]) == (0xA1B23C4D, 101)
    record = pcap.record(1_500_000_001, packets.SYN)
    assert struct.unpack("<IIII", record[:16]) == (1, 500_000_001, 60, 60)
    assert record[16:] == packets.SYN
