"""Netlink messages and attributes: bytes, nonsense, and the live kernel's answers."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import KernelError, WireError
from segue.linux.netlink import Netlink, attributes, decode, encode, encode_attribute

SOCK_DIAG = 4
BY_FAMILY = 20


def test_a_message_byte_by_byte() -> None:
    """Length with header, type, flags, sequence, port id 0 (netlink(7)), little-endian here."""
    told = encode(20, 0x301, 7, b"\xaa\xbb")
    assert told.hex(" ") == "12 00 00 00 14 00 01 03 07 00 00 00 00 00 00 00 aa bb"


def test_an_attribute_byte_by_byte() -> None:
    """The length leaves out the padding."""
    assert encode_attribute(7, b"\xaa").hex(" ") == "05 00 07 00 aa 00 00 00"


KINDS = st.integers(0, 0x3FFF)


@given(st.lists(st.tuples(KINDS, st.binary(max_size=40))))
def test_attributes_come_back(given_attributes: list[tuple[int, bytes]]) -> None:
    """Every type and payload, whatever its length."""
    data = b"".join(encode_attribute(kind, payload) for kind, payload in given_attributes)
    assert [(kind, bytes(got)) for kind, got in attributes(memoryview(data))] == given_attributes


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=40))))
def test_messages_come_back(given_messages: list[tuple[int, int, bytes]]) -> None:
    """As many as one buffer holds, each beginning at a multiple of four."""
    data = b""
    for kind, flags, payload in given_messages:
        data += encode(kind, flags, 77, payload)
        data += b"\0" * (-len(data) % 4)
    read = list(decode(memoryview(data)))
    assert [(kind, flags, bytes(payload)) for kind, flags, _, payload in read] == given_messages
    assert {sequence for _, _, sequence, _ in read} <= {77}


def test_the_flags_of_a_type_are_left_out() -> None:
    """NLA_F_NESTED and NLA_F_NET_BYTEORDER are no part of the type."""
    (kind, _), *_ = attributes(memoryview(bytes.fromhex("0400 05c0")))
    assert kind == 5


@given(st.binary(max_size=64))
def test_nonsense_is_refused_or_read_within_its_bounds(data: bytes) -> None:
    """No length leads outside the buffer or round in circles."""
    for read in (decode, attributes):
        try:
            count = len(list(read(memoryview(data))))
        except WireError:
            continue
        assert count <= len(data) // 4


@pytest.mark.parametrize("length", [0, 15, 19])
def test_a_length_that_makes_no_sense_is_refused(length: int) -> None:
    """Shorter than the header, or longer than what came."""
    data = encode(1, 0, 0, b"ab")
    with pytest.raises(WireError, match=f"length {length} of 18 bytes left"):
        list(decode(memoryview(length.to_bytes(4, "little") + data[4:])))


def test_the_kernels_no_has_its_errno() -> None:
    """A request that is too short is EINVAL, and says what was being done."""
    with Netlink(SOCK_DIAG) as asked:
        with pytest.raises(KernelError, match="asking nonsense: netlink failed") as refused:
            asked.request(BY_FAMILY, b"\x02", "asking nonsense")
        assert refused.value.errno == errno.EINVAL
        with pytest.raises(KernelError, match=r"listing nonsense: .*EINVAL"):
            asked.dump(BY_FAMILY, b"\x02", "listing nonsense")


def test_an_error_does_not_spoil_the_next_answer() -> None:
    """After a refusal the same socket answers the next question, and that one only."""
    with Netlink(SOCK_DIAG) as asked:
        with pytest.raises(KernelError):
            asked.dump(BY_FAMILY, b"\x02", "asking nonsense")
        payload = bytes([2, 6, 0, 0]) + bytes(4) + bytes(48)  # IPv4, TCP, no state at all
        assert asked.dump(BY_FAMILY, payload, "listing nothing") == []


def test_a_protocol_that_does_not_exist_is_said() -> None:
    """Not as an OSError of the socket call alone, but with what was wanted."""
    with pytest.raises(KernelError, match=r"protocol 31: socket\(AF_NETLINK\) failed"):
        Netlink(31)
