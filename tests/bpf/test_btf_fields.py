"""Fields and functions of a kernel's own types."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from tests.bpf.test_btf import Types

from segue.bpf.btf import Btf, Kind
from segue.bpf.btf_fields import Field, field, function
from segue.bpf.insn import Size
from segue.errors import NotSupported

RUNNING = Path("/sys/kernel/btf/vmlinux")


def members(types: Types, *rows: tuple[str, int, int]) -> bytes:
    return b"".join(
        struct.pack("<III", types.name(name), kind, place) for name, kind, place in rows
    )


def structure(types: Types, name: str, size: int, *rows: tuple[str, int, int]) -> int:
    rest = members(types, *rows)
    return types.add(Kind.STRUCT, size, rest, name=name, count=len(rows))


@pytest.fixture
def btf() -> Btf:
    """``struct outer { u32 first; struct { union { u16 deep; }; } in; u64 long; int *array[]; }``
    and one with bit fields.
    """
    types = Types()
    u8 = types.add(Kind.INT, 1, bytes(4), name="u8")
    u16 = types.add(Kind.INT, 2, bytes(4), name="u16")
    u32 = types.add(Kind.INT, 4, bytes(4), name="u32")
    named = types.add(Kind.TYPEDEF, u32, name="__u32")
    union = types.add(Kind.UNION, 2, members(types, ("deep", u16, 0)), count=1)
    inner = structure(types, "", 8, ("", union, 32))
    structure(
        types, "outer", 24, ("first", named, 0), ("in", inner, 32), ("many", types.array(u8, 4), 96)
    )
    types.add(Kind.FUNC, 0, name="made_for_us")
    flagged = members(types, ("low", u8, 3 << 24 | 64), ("high", u8, 5 << 24 | 67),
                      ("across", u16, 4 << 24 | 78))  # fmt: skip
    types.add(Kind.STRUCT, 16, flagged, name="bits", count=3)
    data = bytearray(types.build())
    place = data.rindex(struct.pack("<I", Kind.STRUCT << 24 | 3))
    data[place + 3] |= 0x80  # members of this one say how wide they are
    return Btf(bytes(data))


@pytest.mark.parametrize(
    ("name", "way", "where"),
    [
        ("outer", "first", Field(0, Size.U32, 0, 32)),
        ("outer", "in.deep", Field(8, Size.U16, 0, 16)),
        ("bits", "low", Field(8, Size.U8, 0, 3)),
        ("bits", "high", Field(8, Size.U8, 3, 5)),
        ("bits", "across", Field(8, Size.U32, 14, 4)),
    ],
)
def test_where_a_field_is(btf: Btf, name: str, way: str, where: Field) -> None:
    """The least load that has all of it, through types and members without a name."""
    assert field(btf, name, way) == where
    assert where.whole == (name == "outer")


@pytest.mark.parametrize(
    ("name", "way"),
    [("none", "x"), ("outer", "none"), ("outer", "first.x"), ("outer", "in"), ("outer", "many")],
)
def test_what_is_no_field_is_refused(btf: Btf, name: str, way: str) -> None:
    """A structure or a field that is not there, and what is no number."""
    with pytest.raises(NotSupported, match=f"looking at {way} of struct {name}"):
        field(btf, name, way)


def test_functions_have_a_number(btf: Btf) -> None:
    """By name; one that is not there says what is needed."""
    assert btf.type(function(btf, "made_for_us", "x")).name == "made_for_us"
    with pytest.raises(NotSupported, match=r"function none needs Linux 9\.9"):
        function(btf, "none", "Linux 9.9")


@pytest.mark.skipif(not RUNNING.exists(), reason="this kernel does not describe its types")
def test_the_running_kernel() -> None:
    """The first word of an IPv4 address pair is where every kernel has it."""
    btf = Btf(RUNNING.read_bytes())
    assert field(btf, "sock_common", "skc_daddr") == Field(0, Size.U32, 0, 32)
    assert field(btf, "tcp_sock", "repair").bits == 1
    assert btf.type(function(btf, "tcp_v4_rcv", "TCP")).kind is Kind.FUNC
