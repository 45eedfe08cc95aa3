"""Blocks to instructions: every operation in at most a handful, by ``segue.bpf.asm``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from segue.bpf import asm, insn
from segue.bpf.insn import FP, R0, R1, R5, R6, Alu, Instruction, Jump, Size
from segue.errors import UsageError
from segue.policy import ir
from segue.policy.allocate import Allocation, allocate
from segue.policy.maps import MOST_RECORD_BYTES

KEY_AT = -8  # a helper's key, and where it puts what it loads
VALUE_AT = -16
RECORD_AT = VALUE_AT - MOST_RECORD_BYTES
_FIRST_SPILL = RECORD_AT - 8
_STACK = 512
_OPPOSITE = {
    Jump.EQ: Jump.NE,
    Jump.GT: Jump.LE,
    Jump.GE: Jump.LT,
    Jump.SGT: Jump.SLE,
    Jump.SGE: Jump.SLT,
}
_OPPOSITE |= {other: one for one, other in _OPPOSITE.items()}
_COMMUTES = {Alu.ADD, Alu.MUL, Alu.AND, Alu.OR, Alu.XOR}


@dataclass(slots=True)
class Emitter:
    """One program on its way; ``maps`` has the number by which the program names each map."""

    entry: ir.Block
    maps: Mapping[str, int]
    items: list[asm.Item] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # of each instruction
    blocks: list[ir.Block] = field(init=False)
    allocation: Allocation = field(init=False)
    _line: int = 0
    _in_r0: ir.Var | None = None  # a spilled variable that is still there

    def __post_init__(self) -> None:
        self.blocks = ir.in_order(self.entry)
        self.allocation = allocate(self.blocks, _FIRST_SPILL)
        if self.allocation.spilled and min(self.allocation.spilled.values()) < -_STACK:
            raise UsageError("the policy needs more than the 512 bytes of stack: use fewer locals")

    def run(self) -> list[Instruction]:
        """The instructions."""
        self._add(asm.mov_reg(R6, R1))
        for number, block in enumerate(self.blocks):
            self.items.append(asm.Label(str(block.number)))
            self._in_r0 = None
            for op, line in block.ops:
                self._line = line
                if id(op) not in self.allocation.dead:
                    self._op(op)
            self._line = block.line
            following = self.blocks[number + 1] if number + 1 < len(self.blocks) else None
            self._end(block.end, following)
        return asm.assemble(self.items)

    def _add(self, *items: asm.Item) -> None:
        self.items += items
        self.lines += [self._line] * len(items)
        if any(map(_sets_r0, items)):
            self._in_r0 = None

    def _read(self, operand: ir.Operand, scratch: int) -> int:
        """A register that has it."""
        if isinstance(operand, int):
            self._constant(scratch, operand)
            return scratch
        if operand in self.allocation.registers:
            return self.allocation.registers[operand]
        if operand is self._in_r0:
            return R0
        self._add(asm.load(Size.U64, scratch, FP, self.allocation.spilled[operand]))
        return scratch

    def _constant(self, register: int, value: int) -> None:
        signed = value - (1 << 64) if value >> 63 == 1 else value
        if -(1 << 31) <= signed < 1 << 31:
            self._add(asm.mov_imm(register, signed))
        else:
            self._add(asm.mov_imm64(register, value))

    def _target(self, var: ir.Var) -> int:
        return self.allocation.registers.get(var, R0)

    def _keep(self, var: ir.Var, register: int) -> None:
        """The register's content becomes the variable's."""
        if var in self.allocation.spilled:
            self._add(asm.store_reg(Size.U64, FP, self.allocation.spilled[var], register))
            if register == R0:
                self._in_r0 = var
        elif var in self.allocation.registers and self.allocation.registers[var] != register:
            self._add(asm.mov_reg(self.allocation.registers[var], register))

    def _op(self, op: ir.Op) -> None:
        match op:
            case ir.Move(to, int() as value):
                target = self._target(to)
                self._constant(target, value)
                self._keep(to, target)
            case ir.Move(to, value):
                self._keep(to, self._read(value, R0))
            case ir.Binary():
                self._binary(op)
            case ir.HostOrder(to, value, bits):
                target = self._target(to)
                source = self._read(value, R0)
                if source != target:
                    self._add(asm.mov_reg(target, source))
                self._add(asm.network_order(target, bits))
                self._keep(to, target)
            case ir.Load(to, base, offset, size):
                target = self._target(to)
                register, start = self._base(base)
                self._add(asm.load(size, target, register, start + offset))
                self._keep(to, target)
            case ir.Store(base, offset, size, value):
                register, start = self._base(base)
                if isinstance(value, int) and -(1 << 31) <= value < 1 << 31:
                    self._add(asm.store_imm(size, register, start + offset, value))
                else:
                    self._add(asm.store_reg(size, register, start + offset, self._read(value, R0)))
            case ir.Call():
                self._call(op)

    def _base(self, base: ir.Var | ir.Context | ir.StackAddress) -> tuple[int, int]:
        match base:
            case ir.Context():
                return R6, 0
            case ir.StackAddress(offset):
                return FP, offset
            case _:
                register = self._read(base, R5)
                if register == R0:  # what is stored may want it
                    self._add(asm.mov_reg(R5, R0))
                    register = R5
                return register, 0

    def _binary(self, op: ir.Binary) -> None:
        left, right = op.left, op.right
        if isinstance(left, int) and op.op in _COMMUTES:
            left, right = right, left
        target = self._target(op.to)
        if isinstance(right, ir.Var) and self.allocation.registers.get(right) == target:
            target = R0
        source = self._read(left, R0)
        if source != target:
            self._add(asm.mov_reg(target, source))
        by_number, by_register = (
            (asm.alu_imm, asm.alu_reg) if op.wide else (asm.alu32_imm, asm.alu32_reg)
        )
        number = _immediate(right, wide=op.wide)
        if op.op is Alu.NEG:
            self._add(by_number(Alu.NEG, target, 0))
        elif number is not None:
            self._add(by_number(op.op, target, number))
        else:
            self._add(by_register(op.op, target, self._read(right, R5)))
        self._keep(op.to, target)

    def _call(self, op: ir.Call) -> None:
        moves = {
            register: argument
            for register, argument in enumerate(op.arguments, R1)
            if isinstance(argument, ir.Var)
        }
        # Registers to registers first, none overwritten while another still wants it.
        waiting = {
            to: self.allocation.registers[var]
            for to, var in moves.items()
            if var in self.allocation.registers and self.allocation.registers[var] != to
        }
        while waiting:
            free = [to for to in waiting if to not in waiting.values()]
            if free:
                self._add(asm.mov_reg(free[0], waiting.pop(free[0])))
                continue
            to, source = next(iter(waiting.items()))
            self._add(asm.mov_reg(R0, source))
            waiting[to] = R0
        for register, argument in enumerate(op.arguments, R1):
            match argument:
                case ir.Context():
                    self._add(asm.mov_reg(register, R6))
                case ir.MapAddress(name):
                    self._add(asm.load_map(register, self.maps[name]))
                case ir.StackAddress(offset):
                    self._add(asm.mov_reg(register, FP), asm.alu_imm(Alu.ADD, register, offset))
                case int():
                    self._constant(register, argument)
                case _ if argument in self.allocation.spilled:
                    self._add(asm.load(Size.U64, register, FP, self.allocation.spilled[argument]))
        self._add(asm.call(op.helper))
        self._keep(op.to, R0)

    def _end(self, end: ir.Go | ir.Branch | ir.Leave | None, following: ir.Block | None) -> None:
        match end:
            case ir.Go(to):
                if to is not following:
                    self._add(asm.jump(str(to.number)))
            case ir.Branch(when, left, right, then, other):
                if then is following:
                    when, then, other = _OPPOSITE[when], other, then
                register = self._read(left, R0)
                number = _immediate(right, wide=True)
                if number is not None:
                    self._add(asm.jump_imm(when, register, number, str(then.number)))
                else:
                    second = self._read(right, R5)
                    self._add(asm.jump_reg(when, register, second, str(then.number)))
                if other is not following:
                    self._add(asm.jump(str(other.number)))
            case ir.Leave(verdict):
                source = self._read(verdict, R0)
                if source != R0:
                    self._add(asm.mov_reg(R0, source))
                self._add(asm.leave())


def _immediate(operand: ir.Operand, *, wide: bool) -> int | None:
    """The number as an instruction's signed 32 bits, when it fits."""
    if not isinstance(operand, int):
        return None
    bits = 64 if wide else 32
    value = operand & (1 << bits) - 1
    if value >> bits - 1:
        value -= 1 << bits
    return value if -(1 << 31) <= value < 1 << 31 else None


def _sets_r0(item: asm.Item) -> bool:
    if not isinstance(item, Instruction):
        return False
    if item.family in {insn.ALU32, insn.ALU64, insn.LD, insn.LDX}:
        return item.dst == R0
    return item.family == insn.JMP  # a call, or the end
