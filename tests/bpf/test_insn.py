"""Instructions against the bytes the kernel's documentation gives, and there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.bpf import insn
from segue.bpf.insn import Instruction, Size, decode, encode
from segue.errors import UsageError, WireError

GOLDEN = [
    ("r0 = 1", Instruction(0xB7, 0, imm=1), "b700000001000000"),
    ("exit", Instruction(0x95), "9500000000000000"),
    ("r6 = r1", Instruction(0xBF, 6, 1), "bf16000000000000"),
    ("r1 += -4", Instruction(0x07, 1, imm=-4), "07010000fcffffff"),
    ("r2 = *(u32 *)(r6 +32)", Instruction(0x61, 2, 6, 32), "6162200000000000"),
    ("*(u32 *)(r10 -4) = r9", Instruction(0x63, 10, 9, -4), "639afcff00000000"),
    ("if r0 == 0 goto +3", Instruction(0x15, 0, 0, 3), "1500030000000000"),
    ("call 82", Instruction(0x85, imm=82), "8500000052000000"),
    ("r1 = map fd 5", Instruction(0x18, 1, 1, imm=5), "18110000050000000000000000000000"),
    (
        "r1 = 0x1122334455667788",
        Instruction(0x18, 1, imm=0x1122334455667788),
        "18010000887766550000000044332211",
    ),
    (
        "r1 = map fd 5 value +8",
        Instruction(0x18, 1, 2, imm=8 << 32 | 5),
        "18210000050000000000000008000000",
    ),
]

REGISTERS = st.integers(0, 15)
OFFSETS = st.integers(-(1 << 15), (1 << 15) - 1)
NARROW = st.builds(
    Instruction,
    st.integers(0, 255).filter(lambda opcode: opcode != insn.LD_IMM64),
    REGISTERS,
    REGISTERS,
    OFFSETS,
    st.integers(-(1 << 31), (1 << 31) - 1),
)
WIDE = st.builds(
    Instruction,
    st.just(insn.LD_IMM64),
    REGISTERS,
    REGISTERS,
    OFFSETS,
    st.integers(0, (1 << 64) - 1),
)


@pytest.mark.parametrize(("what", "one", "data"), GOLDEN, ids=[row[0] for row in GOLDEN])
def test_the_bytes_are_the_documented_ones(what: str, one: Instruction, data: str) -> None:
    """Both ways: the instruction has these bytes, and the bytes mean this instruction."""
    assert one.encode().hex() == data
    assert decode(bytes.fromhex(data)) == [one]


@given(st.lists(NARROW | WIDE, max_size=20))
def test_every_program_comes_back(program: list[Instruction]) -> None:
    """What is encoded decodes to the same, with eight bytes a slot."""
    data = encode(program)
    assert len(data) == 8 * sum(one.slots for one in program)
    assert decode(data) == program


@given(st.binary(max_size=64))
def test_bytes_are_refused_or_come_back(data: bytes) -> None:
    """Whatever decodes encodes to the very bytes; the rest is a WireError, nothing else."""
    try:
        program = decode(data)
    except WireError:
        return
    assert encode(program) == data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("b70000000100", "ends inside a slot"),
        ("1801000088776655", "has no second slot"),
        ("18010000887766550100000044332211", "is not the upper half"),
    ],
)
def test_half_an_instruction_is_refused(data: str, why: str) -> None:
    """A truncated program is not read as a shorter one."""
    with pytest.raises(WireError, match=why):
        decode(bytes.fromhex(data))


@pytest.mark.parametrize(
    "fields",
    [
        (256, 0, 0, 0, 0),
        (0xB7, 16, 0, 0, 0),
        (0xB7, 0, -1, 0, 0),
        (0xB7, 0, 0, 1 << 15, 0),
        (0xB7, 0, 0, 0, 1 << 31),
        (0x18, 0, 0, 0, -1),
        (0x18, 0, 0, 0, 1 << 64),
    ],
)
def test_a_field_out_of_range_is_refused(fields: tuple[int, int, int, int, int]) -> None:
    """No instruction exists that could not be encoded."""
    with pytest.raises(UsageError, match="an instruction's"):
        Instruction(*fields)


def test_sizes_are_told_in_bytes() -> None:
    """The four widths of a load or store."""
    assert [size.octets for size in (Size.U8, Size.U16, Size.U32, Size.U64)] == [1, 2, 4, 8]
