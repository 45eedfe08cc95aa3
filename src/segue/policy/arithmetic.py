"""Arithmetic of a policy: what two numbers make, of which kind and inside which bounds."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable

from segue.bpf.insn import Alu
from segue.policy import ir
from segue.policy.builder import Builder
from segue.policy.integers import Fixed, wider
from segue.policy.values import FIXED, Num

_OPERATORS: dict[type[ast.operator], tuple[Alu, Callable[[int, int], int]]] = {
    ast.Add: (Alu.ADD, operator.add),
    ast.Sub: (Alu.SUB, operator.sub),
    ast.Mult: (Alu.MUL, operator.mul),
    ast.FloorDiv: (Alu.DIV, operator.floordiv),
    ast.Mod: (Alu.MOD, operator.mod),
    ast.BitAnd: (Alu.AND, operator.and_),
    ast.BitOr: (Alu.OR, operator.or_),
    ast.BitXor: (Alu.XOR, operator.xor),
    ast.LShift: (Alu.LSH, operator.lshift),
    ast.RShift: (Alu.RSH, operator.rshift),
}
_INT64 = (-(1 << 63), (1 << 63) - 1)


class Arithmetic(Builder):
    """Operators on numbers, folded where both are known."""

    def calculate(self, node: ast.AST, op: ast.operator, left: Num, right: Num) -> Num:
        """Two numbers and an operator, as the kernel does it (segue.policy.integers)."""
        if type(op) not in _OPERATORS:
            self.refuse(
                node, "a policy has no such operator", "the operators: + - * // % & | ^ << >>"
            )
        alu, plain = _OPERATORS[type(op)]
        if left.kind == right.kind == "int":
            return self._exactly(node, alu, plain, left, right)
        if alu in {Alu.LSH, Alu.RSH}:
            return self._shift(node, alu, left, right)
        kind = self._together(node, left, right)
        made = FIXED[kind]
        if kind == "i64" and alu in {Alu.DIV, Alu.MOD}:
            self.refuse(
                node,
                "i64 cannot be divided: eBPF can do that only from Linux 6.6 on",
                "divide as u64(...), or shift",
            )
        for one in (left, right):
            if one.kind == "int" and not made.range()[0] <= one.low <= one.high <= made.range()[1]:
                self.refuse(
                    node,
                    f"{one.low} is not in the range of {kind}",
                    "write both sides in one kind: i64(...) or u64(...)",
                )
        if isinstance(left.operand, int) and isinstance(right.operand, int):
            done = getattr(made(left.operand), f"__{plain.__name__.strip('_')}__")(right.operand)
            return Num.constant(kind, int(done))
        to = self.var(kind)
        bounds = self._bounds(alu, plain, left, right, made)
        cheap, operand = _cheaper(alu, right.operand)
        self.emit(ir.Binary(cheap, to, left.operand, operand, wide=made.bits == 64))
        return Num(kind, to, *bounds)

    def _together(self, node: ast.AST, left: Num, right: Num) -> str:
        kinds = [FIXED[one.kind] for one in (left, right) if one.kind in FIXED]
        found = wider(kinds[0], kinds[-1])
        if found is None:
            self.refuse(
                node, "u64 and i64 cannot be combined", "make both one kind: u64(...) or i64(...)"
            )
        return found.__name__

    def _bounds(
        self,
        alu: Alu,
        plain: Callable[[int, int], int],
        left: Num,
        right: Num,
        made: type[Fixed],
    ) -> tuple[int, int]:
        low, high = made.range()
        if alu in {Alu.ADD, Alu.SUB, Alu.MUL}:
            ends = [plain(a, b) for a in (left.low, left.high) for b in (right.low, right.high)]
            if low <= min(ends) <= max(ends) <= high:
                return min(ends), max(ends)
        elif min(left.low, right.low) >= 0:
            if alu is Alu.AND:
                return 0, min(left.high, right.high)
            if alu is Alu.MOD and right.low > 0:
                return 0, min(left.high, right.high - 1)
            if alu in {Alu.DIV, Alu.MOD}:
                return 0, left.high
            if alu in {Alu.OR, Alu.XOR}:
                return 0, (1 << max(left.high, right.high).bit_length()) - 1
        return low, high

    def _exactly(
        self, node: ast.AST, alu: Alu, plain: Callable[[int, int], int], left: Num, right: Num
    ) -> Num:
        if isinstance(left.operand, int) and isinstance(right.operand, int):
            if alu in {Alu.DIV, Alu.MOD} and right.operand == 0:
                self.refuse(node, "division by zero", "write another divisor")
            if alu in {Alu.LSH, Alu.RSH} and not 0 <= right.operand < 64:
                self.refuse(node, "a shift must be between 0 and 63", "write another count")
            return self._exact(node, plain(left.operand, right.operand))
        if alu not in {Alu.ADD, Alu.SUB, Alu.MUL}:
            self.refuse(
                node,
                "integers without a kind only add, subtract and multiply",
                "give one a kind: u32(...)",
            )
        ends = [plain(a, b) for a in (left.low, left.high) for b in (right.low, right.high)]
        if not _INT64[0] <= min(ends) <= max(ends) <= _INT64[1]:
            self.refuse(node, "this may not fit in 64 bits", "give it a kind that wraps: u64(...)")
        to = self.var("int")
        self.emit(ir.Binary(alu, to, left.operand, right.operand, wide=True))
        return Num("int", to, min(ends), max(ends))

    def _shift(self, node: ast.AST, alu: Alu, left: Num, right: Num) -> Num:
        if left.kind == "int":
            self.refuse(node, "the number that is shifted needs a kind", "write u32(...) << count")
        made = FIXED[left.kind]
        if isinstance(right.operand, int):
            # A count with a kind may be the result of something: its low bits count, as in a run.
            if right.kind == "int" and not 0 <= right.operand < made.bits:
                self.refuse(
                    node,
                    f"a shift of {left.kind} must be between 0 and {made.bits - 1}",
                    "write another count",
                )
            right = Num.constant(right.kind, right.operand & made.bits - 1)
            assert isinstance(right.operand, int)
            if isinstance(left.operand, int):
                value = made(left.operand)
                done = value << right.operand if alu is Alu.LSH else value >> right.operand
                return Num.constant(left.kind, int(done))
        if alu is Alu.RSH and made.signed:
            alu = Alu.ARSH
        to = self.var(left.kind)
        self.emit(ir.Binary(alu, to, left.operand, right.operand, wide=made.bits == 64))
        low, high = made.range()
        if isinstance(right.operand, int) and left.low >= 0:
            if alu is not Alu.LSH:
                low, high = left.low >> right.operand, left.high >> right.operand
            elif left.high << right.operand <= high:
                low, high = left.low << right.operand, left.high << right.operand
        return Num(left.kind, to, low, high)

    def _unary(self, node: ast.AST, op: ast.unaryop, of: Num) -> Num:
        if isinstance(op, ast.UAdd):
            return of
        minus = isinstance(op, ast.USub)
        if of.kind == "int":
            if isinstance(of.operand, int):
                return self._exact(node, -of.operand if minus else ~of.operand)
            zero = Num.constant("int", 0 if minus else -1)
            return self._exactly(node, Alu.SUB, operator.sub, zero, of)
        made = FIXED[of.kind]
        if isinstance(of.operand, int):
            value = made(of.operand)
            return Num.constant(of.kind, int(-value if minus else ~value))
        to = self.var(of.kind)
        wide = made.bits == 64
        if minus:
            self.emit(ir.Binary(Alu.NEG, to, of.operand, 0, wide=wide))
        else:
            self.emit(ir.Binary(Alu.XOR, to, of.operand, -1, wide=wide))
        return self._any(of.kind, to)

    def _exact(self, node: ast.AST, number: int) -> Num:
        if not _INT64[0] <= number <= _INT64[1] and not 0 <= number < 1 << 64:
            self.refuse(node, f"{number} does not fit in 64 bits", "write a smaller number")
        return Num.constant("int", number)

    def _any(self, kind: str, operand: ir.Operand) -> Num:
        return Num(kind, operand, *FIXED[kind].range())


def _cheaper(alu: Alu, right: ir.Operand) -> tuple[Alu, ir.Operand]:
    """Division by a power of two, of numbers without a sign, as what takes one cycle."""
    if isinstance(right, int) and right > 0 and right & right - 1 == 0:
        if alu is Alu.MOD:
            return Alu.AND, right - 1
        if alu is Alu.DIV:
            return Alu.RSH, right.bit_length() - 1
    return alu, right
