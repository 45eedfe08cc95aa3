"""An assembler: one short constructor per addressing mode, and jumps that name labels.

A program is written as a list of instructions, branches and labels; ``assemble`` counts the
distances.  Register names are in ``segue.bpf.insn``.  Pure: a map is a number here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from segue.bpf import insn
from segue.bpf.insn import FP, R0, R1, R2, R3, R4, Alu, Helper, Instruction, Jump, Size
from segue.errors import UsageError

# A jump's offset is a signed 16-bit number of slots.
FARTHEST = (1 << 15) - 1


@dataclass(frozen=True, slots=True)
class Label:
    """A name for the place of the next instruction."""

    name: str


@dataclass(frozen=True, slots=True)
class Branch:
    """A jump whose distance is not counted yet."""

    instruction: Instruction
    target: str


Item = Instruction | Branch | Label


def mov_imm(dst: int, value: int) -> Instruction:
    """``dst = value``, a signed 32-bit number, extended with its sign."""
    return alu_imm(Alu.MOV, dst, value)


def mov_reg(dst: int, src: int) -> Instruction:
    """``dst = src``, all 64 bits."""
    return alu_reg(Alu.MOV, dst, src)


def mov_imm64(dst: int, value: int) -> Instruction:
    """``dst = value``, any number of 64 bits, signed or not; two slots."""
    if not -(1 << 63) <= value < 1 << 64:
        raise UsageError(f"{value} does not fit in 64 bits")
    return Instruction(insn.LD_IMM64, dst, insn.PSEUDO_NUMBER, 0, value & (1 << 64) - 1)


def load_map(dst: int, descriptor: int) -> Instruction:
    """``dst`` = the map with this descriptor; two slots."""
    return Instruction(insn.LD_IMM64, dst, insn.PSEUDO_MAP_FD, 0, descriptor)


def alu_imm(op: Alu, dst: int, value: int) -> Instruction:
    """``dst = dst op value``, on 64 bits."""
    return Instruction(insn.ALU64 | op | insn.K, dst, imm=value)


def alu_reg(op: Alu, dst: int, src: int) -> Instruction:
    """``dst = dst op src``, on 64 bits."""
    return Instruction(insn.ALU64 | op | insn.X, dst, src)


def alu32_imm(op: Alu, dst: int, value: int) -> Instruction:
    """``dst = dst op value``, on 32 bits; the upper half becomes zero."""
    return Instruction(insn.ALU32 | op | insn.K, dst, imm=value)


def alu32_reg(op: Alu, dst: int, src: int) -> Instruction:
    """``dst = dst op src``, on 32 bits; the upper half becomes zero."""
    return Instruction(insn.ALU32 | op | insn.X, dst, src)


def network_order(dst: int, bits: int) -> Instruction:
    """``dst`` between host and network order (the same exchange), its low 16, 32 or 64 bits."""
    if bits not in {16, 32, 64}:
        raise UsageError(f"a byte order needs 16, 32 or 64 bits (got {bits})")
    return Instruction(insn.ALU32 | Alu.END | insn.X, dst, imm=bits)


def load(size: Size, dst: int, src: int, off: int) -> Instruction:
    """``dst = *(src + off)``, extended with zeros."""
    return Instruction(insn.LDX | insn.MEM | size, dst, src, off)


def store_imm(size: Size, dst: int, off: int, value: int) -> Instruction:
    """``*(dst + off) = value``."""
    return Instruction(insn.ST | insn.MEM | size, dst, 0, off, value)


def store_reg(size: Size, dst: int, off: int, src: int) -> Instruction:
    """``*(dst + off) = src``."""
    return Instruction(insn.STX | insn.MEM | size, dst, src, off)


def atomic_add(size: Size, dst: int, off: int, src: int) -> Instruction:
    """``*(dst + off) += src`` in one step that no other processor sees half of."""
    if size not in {Size.U32, Size.U64}:
        raise UsageError(f"an atomic operation is on U32 or U64, not on {size.name}")
    return Instruction(insn.STX | insn.ATOMIC | size, dst, src, off, insn.ATOMIC_ADD)


def jump(target: str) -> Branch:
    """Go there."""
    return Branch(Instruction(insn.JMP | Jump.ALWAYS), target)


def jump_imm(when: Jump, dst: int, value: int, target: str) -> Branch:
    """Go there when ``dst`` compares so with the number, on 64 bits."""
    return Branch(Instruction(insn.JMP | _condition(when) | insn.K, dst, imm=value), target)


def jump_reg(when: Jump, dst: int, src: int, target: str) -> Branch:
    """Go there when ``dst`` compares so with ``src``, on 64 bits."""
    return Branch(Instruction(insn.JMP | _condition(when) | insn.X, dst, src), target)


def may_goto(target: str) -> Branch:
    """Go there when this has been passed some millions of times, which the kernel counts.

    A loop that has it is verified once, not once for each time: the numbers that differ between
    two times must not be known beforehand.  Linux 6.9.
    """
    return Branch(Instruction(insn.MAY_GOTO), target)


def call(helper: int) -> Instruction:
    """Call a kernel helper: arguments in R1 to R5, which are lost; the answer is in R0."""
    return Instruction(insn.JMP | Jump.CALL, imm=helper)


def call_kernel(function: int) -> Instruction:
    """The same, of a function of the kernel by its number in the kernel's BTF (a kfunc)."""
    return Instruction(insn.JMP | Jump.CALL, 0, insn.PSEUDO_KFUNC_CALL, 0, function)


def leave() -> Instruction:
    """End the program; R0 is its verdict."""
    return Instruction(insn.JMP | Jump.EXIT)


def packet_bytes(context: int, offset: int, place: int, count: int, short: str) -> list[Item]:
    """So many bytes of the packet to a place on the stack; on to ``short`` if it has not so many.

    ``context`` is a register that keeps its value over calls.
    """
    return [
        mov_reg(R1, context),
        mov_imm(R2, offset),
        mov_reg(R3, FP),
        alu_imm(Alu.ADD, R3, place),
        mov_imm(R4, count),
        call(Helper.SKB_LOAD_BYTES),
        jump_imm(Jump.NE, R0, 0, short),
    ]


def by_key(helper: Helper, descriptor: int, place: int) -> list[Item]:
    """A helper with a map and a key, which is at this place on the stack."""
    return [load_map(R1, descriptor), mov_reg(R2, FP), alu_imm(Alu.ADD, R2, place), call(helper)]


def _condition(when: Jump) -> Jump:
    if when in {Jump.ALWAYS, Jump.CALL, Jump.EXIT}:
        raise UsageError(f"{when.name} compares nothing")
    return when


def assemble(items: Iterable[Item]) -> list[Instruction]:
    """The program, every branch with its distance.

    Raises UsageError, naming the label, when one is unknown, stands twice, has no instruction
    after it, or is farther than FARTHEST slots from a jump to it.
    """
    written = list(items)
    places: dict[str, int] = {}
    slot = 0
    for item in written:
        if isinstance(item, Label):
            if item.name in places:
                raise UsageError(f"label {item.name!r} stands twice")
            places[item.name] = slot
        else:
            slot += item.instruction.slots if isinstance(item, Branch) else item.slots
    past = [name for name, place in places.items() if place == slot]
    if past:
        raise UsageError(f"label {past[0]!r} has no instruction after it")

    program: list[Instruction] = []
    slot = 0
    for item in written:
        if isinstance(item, Label):
            continue
        one = item if isinstance(item, Instruction) else _resolved(item, slot, places)
        program.append(one)
        slot += one.slots
    return program


def _resolved(branch: Branch, slot: int, places: dict[str, int]) -> Instruction:
    if branch.target not in places:
        known = ", ".join(sorted(places)) or "none"
        raise UsageError(f"no label {branch.target!r} (there are: {known})")
    # Counted from the instruction after the jump.
    distance = places[branch.target] - (slot + 1)
    if not -FARTHEST - 1 <= distance <= FARTHEST:
        raise UsageError(
            f"label {branch.target!r} is {distance} slots from the jump at slot {slot};"
            f" a jump reaches {FARTHEST}"
        )
    return replace(branch.instruction, off=distance)
