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


@given(st.binary(min_size=2, max_size=2), st.binary(min_size=8, max_size=8), st.integers(0, 255))
def test_a_usual_syn_is_read_as_any_other(mss: bytes, stamps: bytes, scale: int) -> None:
    """Its options are taken at once; with an end behind them they are taken one by one."""
    made = b"\x02\x04" + mss + b"\x04\x02\x08\x0a" + stamps + b"\x01\x03\x03" + bytes((scale,))
    found = parse(made)
    assert found.sack_permitted
    assert found == parse(made + bytes(4))


@given(st.binary(max_size=40))
def test_any_bytes_can_be_read(data: bytes) -> None:
    """Nothing is raised, and what was read can be written, padded, and read again."""
    found = parse(data)
    again = emit(found)
    assert len(again) % 4 == 0
    assert parse(again) == found
