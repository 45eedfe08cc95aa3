"""A program as text, in the notation and with the slot numbers of the kernel's verifier.

The verifier's log names slots; with this beside it the log can be read.  Jump targets get labels,
L0 onwards from the top, and helpers their names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from segue.bpf import insn
from segue.bpf.insn import Alu, Helper, Instruction, Jump, Size

_ALU = {
    Alu.ADD: "+=",
    Alu.SUB: "-=",
    Alu.MUL: "*=",
    Alu.DIV: "/=",
    Alu.OR: "|=",
    Alu.AND: "&=",
    Alu.LSH: "<<=",
    Alu.RSH: ">>=",
    Alu.MOD: "%=",
    Alu.XOR: "^=",
    Alu.MOV: "=",
    Alu.ARSH: "s>>=",
}
_JUMP = {
    Jump.EQ: "==",
    Jump.GT: ">",
    Jump.GE: ">=",
    Jump.SET: "&",
    Jump.NE: "!=",
    Jump.SGT: "s>",
    Jump.SGE: "s>=",
    Jump.LT: "<",
    Jump.LE: "<=",
    Jump.SLT: "s<",
    Jump.SLE: "s<=",
}
_SIZE = {Size.U8: "u8", Size.U16: "u16", Size.U32: "u32", Size.U64: "u64"}


def disassemble(program: Sequence[Instruction], maps: Mapping[int, str] | None = None) -> str:
    """One line an instruction, ``SLOT: (OPCODE) TEXT``, and a line for each label.

    ``maps`` gives names to map descriptors.  What is no known instruction is shown by its fields,
    so every program can be shown.
    """
    places: list[int] = []
    slot = 0
    for one in program:
        places.append(slot)
        slot += one.slots
    pairs = list(zip(places, program, strict=True))
    targets = sorted({_target(place, one) for place, one in pairs if _jumps(one)} & set(places))
    labels = {place: f"L{number}" for number, place in enumerate(targets)}
    lines: list[str] = []
    for place, one in pairs:
        if place in labels:
            lines.append(f"{labels[place]}:")
        lines.append(f"{place:4}: ({one.opcode:02x}) {_text(place, one, labels, maps or {})}")
    return "\n".join(lines)


def _jumps(one: Instruction) -> bool:
    if one.family == insn.JMP32:
        return one.opcode & insn.OP_MASK in _JUMP
    return one.family == insn.JMP and (
        one.opcode & insn.OP_MASK in _JUMP or one.opcode == insn.JMP | Jump.ALWAYS
    )


def _target(place: int, one: Instruction) -> int:
    return place + 1 + one.off


def _text(place: int, one: Instruction, labels: Mapping[int, str], maps: Mapping[int, str]) -> str:
    if one.wide:
        return _wide(one, maps)
    if one.family in {insn.ALU32, insn.ALU64}:
        return _alu(one)
    if one.family in {insn.LDX, insn.ST, insn.STX}:
        return _memory(one)
    if _jumps(one):
        target = _target(place, one)
        where = f"goto {labels.get(target, f'slot {target}')}"
        if one.opcode == insn.JMP | Jump.ALWAYS:
            return where
        left = "w" if one.family == insn.JMP32 else "r"
        sign = _JUMP[Jump(one.opcode & insn.OP_MASK)]
        return f"if {left}{one.dst} {sign} {_operand(one, left)} {where}"
    if one.opcode == insn.JMP | Jump.CALL and one.src == 0:
        return f"call {_helper(one.imm)}#{one.imm}"
    if one.opcode == insn.JMP | Jump.CALL and one.src == insn.PSEUDO_CALL:
        return f"call slot {place + 1 + one.imm}"
    if one.opcode == insn.JMP | Jump.CALL and one.src == insn.PSEUDO_KFUNC_CALL:
        return f"call function {one.imm} of the kernel"
    if one.opcode == insn.JMP | Jump.EXIT:
        return "exit"
    return _raw(one)


def _wide(one: Instruction, maps: Mapping[int, str]) -> str:
    if one.src == insn.PSEUDO_NUMBER:
        return f"r{one.dst} = {one.imm:#x} ll"
    low, high = one.imm & 0xFFFFFFFF, one.imm >> 32
    named = maps.get(low, f"fd {low}")
    if one.src == insn.PSEUDO_MAP_FD and not high:
        return f"r{one.dst} = map {named}"
    if one.src == insn.PSEUDO_MAP_VALUE:
        return f"r{one.dst} = map {named} value +{high}"
    return _raw(one)


def _alu(one: Instruction) -> str:
    left = "w" if one.family == insn.ALU32 else "r"
    op = one.opcode & insn.OP_MASK
    if op == Alu.NEG:
        return f"{left}{one.dst} = -{left}{one.dst}"
    if op == Alu.END and one.family == insn.ALU32:
        order = "be" if one.opcode & insn.X else "le"
        return f"r{one.dst} = {order}{one.imm} r{one.dst}"
    if op in _ALU:
        return f"{left}{one.dst} {_ALU[Alu(op)]} {_operand(one, left)}"
    return _raw(one)


def _memory(one: Instruction) -> str:
    size = _SIZE[Size(one.opcode & insn.SIZE_MASK)]
    mode = one.opcode & insn.MODE_MASK
    if mode == insn.MEM and one.family == insn.LDX:
        return f"r{one.dst} = {_at(size, one.src, one.off)}"
    if mode == insn.MEM and one.family == insn.STX:
        return f"{_at(size, one.dst, one.off)} = r{one.src}"
    if mode == insn.MEM:
        return f"{_at(size, one.dst, one.off)} = {one.imm}"
    if mode == insn.ATOMIC and one.family == insn.STX and one.imm == insn.ATOMIC_ADD:
        return f"lock {_at(size, one.dst, one.off)} += r{one.src}"
    return _raw(one)


def _at(size: str, register: int, off: int) -> str:
    return f"*({size} *)(r{register} {off:+d})"


def _operand(one: Instruction, letter: str) -> str:
    return f"{letter}{one.src}" if one.opcode & insn.X else str(one.imm)


def _helper(number: int) -> str:
    known = next((helper for helper in Helper if helper == number), None)
    return f"bpf_{known.name.lower()}" if known else "helper"


def _raw(one: Instruction) -> str:
    return f".insn dst={one.dst} src={one.src} off={one.off} imm={one.imm}"
