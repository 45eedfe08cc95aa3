"""TCP segments, against bytes that a kernel sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire import packets

from segue.errors import WireError
from segue.wire.tcp import ACK, FIN, PSH, RST, SYN, Segment, parse, segment_in


def test_a_handshake_and_some_data() -> None:
    """Captured: each segment takes up the numbers of the one before."""
    syn, syn_ack, final, hello, fin = (
        Segment(packet[20:])
        for packet in (
            packets.SYN,
            packets.SYN_ACK,
            packets.FINAL_ACK,
            packets.HELLO,
            packets.SERVERS_FIN,
        )
    )
    assert (syn.sport, syn.dport) == (syn_ack.dport, syn_ack.sport) == (44808, 8080)
    assert [one.flags for one in (syn, syn_ack, final, hello, fin)] == [
        SYN,
        SYN | ACK,
        ACK,
        PSH | ACK,
        FIN | ACK,
    ]
    assert (syn.seq, syn.ack) == (0x3957DF17, 0)
    assert (syn_ack.seq, syn_ack.ack) == (0x1FA5111C, syn.seq + 1)
    assert (final.seq, final.ack) == (syn.seq + 1, syn_ack.seq + 1)
    assert (hello.seq, bytes(hello.payload)) == (final.seq, b"hello")
    assert fin.ack == hello.seq + len(b"hello")
    assert (syn.window, syn.urgent, len(syn.payload)) == (64240, 0, 0)


def test_the_options_are_had_as_they_are() -> None:
    """A SYN's begin with the maximum segment size (RFC 9293, 3.2); the data is not among them."""
    assert bytes(Segment(packets.SYN[20:]).options[:4]) == b"\x02\x04\x05\xb4"
    assert len(Segment(packets.HELLO[20:]).options) == 12


def test_a_segment_as_text() -> None:
    """Ports, flags by name, numbers."""
    assert str(Segment(packets.SYN_ACK[20:])) == (
        "8080 > 44808 SYN ACK seq 530911516 ack 962060056"
    )
    bare = bytearray(packets.FINAL_ACK[20:])
    bare[13] = 0
    assert "no flags" in str(Segment(bytes(bare)))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (packets.SYN[20:39], "19 bytes are no header"),
        (packets.SYN[20:59], "header of 40 in 39 bytes"),
        (packets.SYN[20:32] + b"\x40" + packets.SYN[33:], "header of 16"),
    ],
)
def test_what_is_no_segment_is_refused(data: bytes, why: str) -> None:
    """Fewer bytes than a header has, or than it says to have."""
    with pytest.raises(WireError, match=why):
        Segment(data)
    with pytest.raises(WireError, match=why):
        parse(packets.SYN[12:20], data)


def test_a_segment_taken_apart() -> None:
    """As a view sees it; one that was damaged is refused."""
    addresses, data = packets.HELLO[12:20], packets.HELLO[20:]
    seen = Segment(data)
    assert parse(addresses, data) == (
        data[:4], seen.seq, seen.ack, seen.flags, seen.window, bytes(seen.options), b"hello",
    )  # fmt: skip
    with pytest.raises(WireError, match="wrong checksum"):
        parse(addresses, data[:-1] + b"0")


def test_the_segment_in_a_packet() -> None:
    """TCP, whole, and sensible; anything else has none."""
    found = segment_in(packets.SYN)
    assert found is not None
    assert found.flags & (SYN | RST) == SYN
    fragment = bytearray(packets.LAST_FRAGMENT)
    fragment[9] = 6
    for packet in (packets.UDP, bytes(fragment), packets.SYN[:30], b"", b"\x60" + b"\0" * 39):
        assert segment_in(packet) is None
    short = bytearray(packets.SYN)
    short[3] = 30
    assert segment_in(bytes(short)) is None


@given(st.binary(max_size=80))
def test_any_bytes_are_a_segment_or_refused(data: bytes) -> None:
    """Nothing but WireError comes out; header, options and payload are the whole."""
    try:
        segment = Segment(data)
    except WireError:
        return
    assert 20 + len(segment.options) + len(segment.payload) == len(data)
