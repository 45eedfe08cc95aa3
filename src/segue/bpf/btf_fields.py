"""What a program needs of the running kernel's own types: where a field is, which number a
function has (/sys/kernel/btf/vmlinux).

A field is named by the way to it, such as ``rx_opt.ts_recent``; members without a name are looked
through, as C does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from segue.bpf.btf import Btf, Kind, Type
from segue.bpf.insn import Size
from segue.errors import NotSupported, WireError

_MEMBER = struct.Struct("<III")
_SAME = {Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.TYPE_TAG}
_WITH_MEMBERS = {Kind.STRUCT, Kind.UNION}
_SIZES = {1: Size.U8, 2: Size.U16, 4: Size.U32, 8: Size.U64}


@dataclass(frozen=True, slots=True)
class Field:
    """A load of ``size`` at ``offset`` bytes has the field, ``shift`` bits up, ``bits`` wide."""

    offset: int
    size: Size
    shift: int
    bits: int

    @property
    def whole(self) -> bool:
        """The load has nothing else."""
        return self.bits == 8 * self.size.octets


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    type_number: int
    bit: int
    bits: int  # 0 when it is no bit field


def function(btf: Btf, name: str, needs: str) -> int:
    """The number by which a program calls a function of the kernel.

    Raises NotSupported, with what is needed, when this kernel has none of that name.
    """
    found = btf.number(Kind.FUNC, name)
    if found is None:
        raise NotSupported(f"the kernel's function {name}", needs, "none of that name")
    return found


def field(btf: Btf, structure: str, way: str) -> Field:
    """Where a field is in a structure of the kernel, in the smallest load that has all of it.

    Raises NotSupported when this kernel has it not, or has something else there than a number.
    """
    number = btf.number(Kind.STRUCT, structure)
    if number is None:
        raise _missing(structure, way)
    bit, bits = 0, 0
    for name in way.split("."):
        found = _inside(btf, btf.type(number), name)
        if found is None:
            raise _missing(structure, way)
        bit, bits, number = bit + found.bit, found.bits, _bare(btf, found.type_number)
    if btf.type(number).kind in _WITH_MEMBERS | {Kind.ARRAY}:
        raise _missing(structure, way)
    bits = bits or 8 * btf.size(number)
    for octets, size in _SIZES.items():
        offset = bit // 8 // octets * octets
        shift = bit - 8 * offset
        if shift + bits <= 8 * octets:
            return Field(offset, size, shift, bits)
    raise _missing(structure, way)


def _missing(structure: str, way: str) -> NotSupported:
    needs = "a kernel with this field as a number"
    return NotSupported(f"looking at {way} of struct {structure}", needs, "another kernel")


def _inside(btf: Btf, outer: Type, name: str) -> _Member | None:
    for member in _members(outer, btf):
        if member.name == name:
            return member
        inner = btf.type(_bare(btf, member.type_number))
        if not member.name and inner.kind in _WITH_MEMBERS:
            found = _inside(btf, inner, name)
            if found is not None:
                return _Member(name, found.type_number, member.bit + found.bit, found.bits)
    return None


def _members(outer: Type, btf: Btf) -> Iterator[_Member]:
    if outer.kind not in _WITH_MEMBERS:
        return
    for name, number, place in _MEMBER.iter_unpack(outer.rest):
        if outer.flagged:  # some member is a bit field, and each says how wide it is
            yield _Member(btf.name(name), number, place & 0xFFFFFF, place >> 24)
        else:
            yield _Member(btf.name(name), number, place, 0)


def _bare(btf: Btf, number: int) -> int:
    for _ in range(32):
        one = btf.type(number)
        if one.kind not in _SAME:
            return number
        number = one.refers
    raise WireError(".BTF", f"type {number} refers to itself")
