"""The integers of a policy: ``u32``, ``u64`` and ``i64``, with the kernel's arithmetic.

Each is an ``int`` that wraps, so that a policy run as plain Python gives what its program gives in
the kernel (Documentation/bpf/standardization): results are taken modulo the width, a shift uses
the low bits of its count, division by zero gives zero, and the remainder by zero is the dividend.
A plain ``int`` beside one of them becomes of its kind; two of different kinds become the wider.
``u64`` and ``i64`` do not mix, and ``i64`` does not divide: eBPF learned that in Linux 6.6 only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

_Plain = Callable[[int, int], int]


class Fixed(int):
    """An integer of fixed width.  Abstract: use ``u32``, ``u64`` or ``i64``."""

    bits: ClassVar[int]
    signed: ClassVar[bool] = False

    def __new__(cls, value: int = 0) -> Self:
        """Any integer, taken modulo the width."""
        low = int(value) & (1 << cls.bits) - 1
        if cls.signed and low >> cls.bits - 1:
            low -= 1 << cls.bits
        return super().__new__(cls, low)

    @classmethod
    def range(cls) -> tuple[int, int]:
        """The least and the greatest value."""
        if cls.signed:
            return -(1 << cls.bits - 1), (1 << cls.bits - 1) - 1
        return 0, (1 << cls.bits) - 1

    # The bytes of int's own signatures promise int; a Fixed is one.
    def __add__(self, other: Any) -> Any:
        return _apply(int.__add__, self, other)

    def __radd__(self, other: Any) -> Any:
        return _apply(int.__add__, other, self)

    def __sub__(self, other: Any) -> Any:
        return _apply(int.__sub__, self, other)

    def __rsub__(self, other: Any) -> Any:
        return _apply(int.__sub__, other, self)

    def __mul__(self, other: Any) -> Any:
        return _apply(int.__mul__, self, other)

    def __rmul__(self, other: Any) -> Any:
        return _apply(int.__mul__, other, self)

    def __and__(self, other: Any) -> Any:
        return _apply(int.__and__, self, other)

    def __rand__(self, other: Any) -> Any:
        return _apply(int.__and__, other, self)

    def __or__(self, other: Any) -> Any:
        return _apply(int.__or__, self, other)

    def __ror__(self, other: Any) -> Any:
        return _apply(int.__or__, other, self)

    def __xor__(self, other: Any) -> Any:
        return _apply(int.__xor__, self, other)

    def __rxor__(self, other: Any) -> Any:
        return _apply(int.__xor__, other, self)

    def __floordiv__(self, other: Any) -> Any:
        return _apply(_quotient, self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _apply(_quotient, other, self)

    def __mod__(self, other: Any) -> Any:
        return _apply(_remainder, self, other)

    def __rmod__(self, other: Any) -> Any:
        return _apply(_remainder, other, self)

    def __lshift__(self, other: Any) -> Any:
        return type(self)(int(self) << (int(other) & self.bits - 1))

    def __rshift__(self, other: Any) -> Any:
        return type(self)(int(self) >> (int(other) & self.bits - 1))

    def __neg__(self) -> Any:
        return type(self)(-int(self))

    def __invert__(self) -> Any:
        return type(self)(~int(self))


class u32(Fixed):  # noqa: N801  the kernel's name
    """32 bits, 0 to 4,294,967,295."""

    bits = 32


class u64(Fixed):  # noqa: N801
    """64 bits, from 0."""

    bits = 64


class i64(Fixed):  # noqa: N801
    """64 bits with a sign."""

    bits = 64
    signed = True


def wider(left: type[Fixed], right: type[Fixed]) -> type[Fixed] | None:
    """What the two become together; None when they do not mix."""
    if left is right:
        return left
    if {left, right} == {u64, i64}:
        return None
    return left if left.bits > right.bits else right


def _apply(do: _Plain, left: Any, right: Any) -> Any:
    kinds = [type(one) for one in (left, right) if isinstance(one, Fixed)]
    kind = wider(kinds[0], kinds[-1])
    if kind is None or not isinstance(left, int) or not isinstance(right, int):
        return NotImplemented
    if kind.signed and do in {_quotient, _remainder}:
        return NotImplemented
    return kind(do(int(kind(left)), int(kind(right))))


def _quotient(left: int, right: int) -> int:
    return left // right if right else 0


def _remainder(left: int, right: int) -> int:
    return left % right if right else left
