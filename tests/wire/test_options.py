"""TCP options, against what a kernel sent, and against rubbish."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire import packets

from segue.wire.options import NONE, Options, aligned_stamps, emit, parse
from segue.wire.tcp import Segment


def test_a_handshakes_options() -> None:
    """Captured: MSS, SACK permitted in the timestamp's padding, window scale; back to its bytes."""
    found = Segment(packets.SYN_ACK[20:]).options
    value = Options(1460, 10, sack_permitted=True, stamps=(0xB5FFAFD5, 0xC8CFECCE))
    assert parse(found) == value
    assert emit(value) == bytes(found)


def test_a_timestamp_alone() -> None:
    """Captured: what most segments have."""
    found = bytes(Segment(packets.HELLO[20:]).options)
    assert parse(found) == Options(stamps=(0xC8CFECCE, 0xB5FFAFD5))
    assert aligned_stamps(0xC8CFECCE, 0xB5FFAFD5) == found


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", NONE),
        (b"\x02\x04\x05\xb4\x00\x03\x03\x07", Options(mss=1460)),  # the end is the end
        (b"\x02\x04\x05\xb4\x03\x00\x07", Options(mss=1460)),  # a length of nothing
        (b"\x02\x04\x05\xb4\x03\x09\x07", Options(mss=1460)),  # a length beyond the bytes
        (b"\x02\x04\x00\x00", NONE),
        (b"\x03\x03\x0f", Options(window_scale=14)),
        (b"\x22\x02", Options(fast_open=b"")),
        (b"\x22\x07abcde", NONE),  # no cookie has an odd length
        (b"\xfe\x04ab\x04\x02", Options(sack_permitted=True)),
    ],
)
def test_what_makes_no_sense_is_passed_over(data: bytes, value: Options) -> None:
    """And what stood before it counts."""
    assert parse(data) == value


@given(st.binary(max_size=40))
def test_any_bytes_can_be_read(data: bytes) -> None:
    """Nothing is raised, and what was read can be written, padded, and read again."""
    found = parse(data)
    again = emit(found)
    assert len(again) % 4 == 0
    assert parse(again) == found
