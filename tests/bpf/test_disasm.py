"""Listings: readable for what we write, and possible for everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.bpf.test_insn import NARROW, WIDE

from segue.bpf import asm, insn
from segue.bpf.disasm import disassemble
from segue.bpf.insn import R0, R1, Instruction, Jump


@given(st.lists(NARROW | WIDE, max_size=12))
def test_every_program_has_a_listing(program: list[Instruction]) -> None:
    """A line an instruction, numbered by slot, beside the labels: whatever the bytes are."""
    lines = [line for line in disassemble(program).splitlines() if not line.startswith("L")]
    slots, slot = [], 0
    for one in program:
        slots.append(slot)
        slot += one.slots
    assert [int(line.split(":")[0]) for line in lines] == slots


def test_slots_labels_and_map_names() -> None:
    """A wide instruction takes two numbers, as in the verifier's log; a map has its name."""
    program = asm.assemble(
        [
            asm.load_map(R1, 9),
            asm.jump_imm(Jump.EQ, R1, 0, "end"),
            asm.mov_imm(R0, 1),
            asm.Label("end"),
            asm.leave(),
        ]
    )
    assert disassemble(program, {9: "sockets"}).splitlines() == [
        "   0: (18) r1 = map sockets",
        "   2: (15) if r1 == 0 goto L0",
        "   3: (b7) r0 = 1",
        "L0:",
        "   4: (95) exit",
    ]


def test_what_is_unknown_is_shown_by_its_fields() -> None:
    """Helpers without a name, jumps out of the program, opcodes of a later kernel."""
    odd = [
        Instruction(0x85, imm=9999),
        Instruction(0x85, src=insn.PSEUDO_CALL, imm=4),
        Instruction(0x05, off=99),
        Instruction(0x87, 1),
        Instruction(0x18, 1, insn.PSEUDO_MAP_VALUE, imm=16 << 32 | 3),
        Instruction(0x18, 1, 6, imm=3),
        Instruction(0xDB, 0, 1, imm=0xE1),
    ]
    assert [line.split(") ", 1)[1] for line in disassemble(odd).splitlines()] == [
        "call helper#9999",
        "call slot 6",
        "goto slot 102",
        "r1 = -r1",
        "r1 = map fd 3 value +16",
        ".insn dst=1 src=6 off=0 imm=3",
        ".insn dst=0 src=1 off=0 imm=225",
    ]
