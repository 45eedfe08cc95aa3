"""The assembler: a constructor a row, and labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.bpf import asm, insn
from segue.bpf.asm import FARTHEST, Branch, Item, Label, assemble
from segue.bpf.disasm import disassemble
from segue.bpf.insn import FP, R0, R1, R2, R6, Alu, Helper, Instruction, Jump, Size
from segue.errors import UsageError

NE32, LE32 = insn.JMP32 | Jump.NE | insn.K, insn.JMP32 | Jump.LE | insn.X  # on 32 bits

# What is written, its bytes as the kernel's own assembler macros give them (linux/filter.h), and
# how it reads.
ROWS: list[tuple[Instruction, str, str]] = [
    (asm.mov_imm(R0, -1), "b7000000ffffffff", "r0 = -1"),
    (asm.mov_reg(R6, R1), "bf16000000000000", "r6 = r1"),
    (asm.mov_imm64(R1, -1), "18010000ffffffff00000000ffffffff", "r1 = 0xffffffffffffffff ll"),
    (asm.load_map(R1, 7), "18110000070000000000000000000000", "r1 = map fd 7"),
    (asm.alu_imm(Alu.AND, R1, 4095), "57010000ff0f0000", "r1 &= 4095"),
    (asm.alu_reg(Alu.MOD, R1, R2), "9f21000000000000", "r1 %= r2"),
    (asm.alu_imm(Alu.ARSH, R1, 3), "c701000003000000", "r1 s>>= 3"),
    (asm.alu32_imm(Alu.ADD, R1, 2), "0401000002000000", "w1 += 2"),
    (asm.alu32_reg(Alu.MOV, R1, R2), "bc21000000000000", "w1 = w2"),
    (asm.network_order(R1, 16), "dc01000010000000", "r1 = be16 r1"),
    (asm.load(Size.U8, R0, R1, 1), "7110010000000000", "r0 = *(u8 *)(r1 +1)"),
    (asm.load(Size.U16, R0, R1, 2), "6910020000000000", "r0 = *(u16 *)(r1 +2)"),
    (asm.load(Size.U64, R0, R1, 8), "7910080000000000", "r0 = *(u64 *)(r1 +8)"),
    (asm.store_imm(Size.U32, FP, -4, 9), "620afcff09000000", "*(u32 *)(r10 -4) = 9"),
    (asm.store_reg(Size.U64, FP, -8, R1), "7b1af8ff00000000", "*(u64 *)(r10 -8) = r1"),
    (asm.atomic_add(Size.U64, R0, 0, R1), "db10000000000000", "lock *(u64 *)(r0 +0) += r1"),
    (asm.call(Helper.SK_SELECT_REUSEPORT), "8500000052000000", "call bpf_sk_select_reuseport#82"),
    (asm.leave(), "9500000000000000", "exit"),
]
JUMPS: list[tuple[Branch, str, str]] = [
    (asm.jump("end"), "0500010000000000", "goto L0"),
    (asm.jump_imm(Jump.EQ, R0, 0, "end"), "1500010000000000", "if r0 == 0 goto L0"),
    (asm.jump_reg(Jump.GT, R1, R2, "end"), "2d21010000000000", "if r1 > r2 goto L0"),
    (asm.jump_imm(Jump.SET, R1, 4, "end"), "4501010004000000", "if r1 & 4 goto L0"),
    (asm.jump_imm(Jump.SLT, R1, -1, "end"), "c5010100ffffffff", "if r1 s< -1 goto L0"),
    (Branch(Instruction(NE32, R1, imm=5), "end"), "5601010005000000", "if w1 != 5 goto L0"),
    (Branch(Instruction(LE32, R1, R2), "end"), "be21010000000000", "if w1 <= w2 goto L0"),
]


@pytest.mark.parametrize(("one", "data", "text"), ROWS, ids=[row[2] for row in ROWS])
def test_a_constructor_gives_these_bytes_and_reads_so(
    one: Instruction, data: str, text: str
) -> None:
    """Each addressing mode: its bytes, and its line in a listing."""
    assert assemble([one])[0].encode().hex() == data
    assert disassemble([one]) == f"   0: ({one.opcode:02x}) {text}"


@pytest.mark.parametrize(("branch", "data", "text"), JUMPS, ids=[row[2] for row in JUMPS])
def test_a_jump_over_one_instruction(branch: Branch, data: str, text: str) -> None:
    """Distances count from the instruction after the jump."""
    program = assemble([branch, asm.mov_imm(R0, 0), Label("end"), asm.leave()])
    assert program[0].encode().hex() == data
    lines = disassemble(program).splitlines()
    assert lines[0] == f"   0: ({program[0].opcode:02x}) {text}"
    assert lines[2:] == ["L0:", "   2: (95) exit"]


def test_a_jump_counts_a_wide_instruction_twice() -> None:
    """Over a map load there are two slots, backwards as well as forwards."""
    program = assemble(
        [
            Label("again"),
            asm.load_map(R1, 3),
            asm.jump_imm(Jump.NE, R0, 0, "again"),
            asm.jump("end"),
            asm.load_map(R1, 3),
            Label("end"),
            asm.leave(),
        ]
    )
    assert [program[1].off, program[2].off] == [-3, 2]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.data())
def test_every_jump_lands_on_its_label(widths: list[int], data: st.DataObject) -> None:
    """Wherever labels stand and in whatever order they are jumped to."""
    items: list[Item] = []
    for number, width in enumerate(widths):
        target = data.draw(st.integers(0, len(widths) - 1))
        items += [Label(str(number)), asm.jump(str(target))]
        items += [
            asm.load_map(R1, 1) if each % 2 else asm.mov_imm(R0, each) for each in range(width)
        ]
    program = assemble([*items, asm.leave()])
    places = [0]
    for one in program:
        places.append(places[-1] + one.slots)
    starts, slot = {}, 0
    for item in items:
        if isinstance(item, Label):
            starts[item.name] = slot
        else:
            slot += item.slots if isinstance(item, Instruction) else 1
    wanted = [starts[item.target] for item in items if isinstance(item, Branch)]
    landed = [
        place + 1 + one.off
        for place, one in zip(places, program, strict=False)
        if one.opcode == 0x05
    ]
    assert landed == wanted


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ([asm.jump("away"), Label("here"), asm.leave()], r"no label 'away' \(there are: here\)"),
        ([asm.jump("away"), asm.leave()], r"there are: none"),
        ([Label("a"), asm.leave(), Label("a"), asm.leave()], "'a' stands twice"),
        ([asm.leave(), Label("end")], "'end' has no instruction after it"),
    ],
)
def test_a_label_that_makes_no_sense_is_named(items: list[Item], why: str) -> None:
    """Unknown, doubled, or at the very end: nothing is assembled."""
    with pytest.raises(UsageError, match=why):
        assemble(items)


def test_a_jump_reaches_so_far_and_no_farther() -> None:
    """FARTHEST slots is fine; one more is refused, with both numbers."""
    far: list[Item] = [asm.jump("end"), *[asm.mov_imm(R0, 0)] * FARTHEST, Label("end"), asm.leave()]
    assert assemble(far)[0].off == FARTHEST
    with pytest.raises(UsageError, match=f"is {FARTHEST + 1} slots from .* reaches {FARTHEST}"):
        assemble([far[0], asm.mov_imm(R0, 0), *far[1:]])


def test_what_the_machine_does_not_have_is_refused() -> None:
    """A conditional jump without condition, odd byte orders, small atomics, huge numbers."""
    with pytest.raises(UsageError, match="CALL compares nothing"):
        asm.jump_imm(Jump.CALL, R0, 0, "x")
    with pytest.raises(UsageError, match="got 8"):
        asm.network_order(R0, 8)
    with pytest.raises(UsageError, match="not on U8"):
        asm.atomic_add(Size.U8, R0, 0, R1)
    with pytest.raises(UsageError, match="64 bits"):
        asm.mov_imm64(R0, 1 << 64)


def test_a_function_of_the_kernel_is_called_by_number() -> None:
    """The source register tells it from a helper, and the listing says so."""
    one = asm.call_kernel(65_594)
    assert one.encode().hex() == "852000003a000100"
    assert disassemble([one]).endswith("call function 65594 of the kernel")
