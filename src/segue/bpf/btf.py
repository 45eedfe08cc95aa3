"""BTF, the types that a compiler describes for BPF, as far as map definitions and the running
kernel's own structures need it (those are for ``btf_fields``).

A map is declared in C as a structure whose members are pointers: what they point to are the
numbers.  ``__uint(max_entries, 8)`` is a member ``max_entries``, a pointer to an array of 8, and
``__type(key, int)`` a member ``key``, a pointer to int (Documentation/bpf/btf.rst, and
Documentation/bpf/map_hash.rst for the declarations).

Left out: everything that only a debugger or a relocation by types asks for.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from enum import IntEnum

from segue.bpf.elf import LONGEST_NAME
from segue.errors import WireError

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_EXT_HEADER = struct.Struct("<HBBIIIIIII")
_TYPE = struct.Struct("<III")
_ARRAY = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_LINE = struct.Struct("<III")
_POINTER_BYTES = 8
# How far a type may be from the one that has a size, as the kernel has it (MAX_RESOLVE_DEPTH).
_DEEPEST = 32
# A map's numbers are u32; what is larger is no size.
_LARGEST = (1 << 32) - 1


class Kind(IntEnum):
    """What a type is (BTF_KIND_*)."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_KINDS = frozenset(Kind)
# Of the second word of a type; and where ``_heads`` has a kind, above what locates the name.
_KIND_SHIFT, _KIND_MASK, _COUNT_MASK = 24, 0x1F, 0xFFFF
_KIND_ABOVE_NAME = 32
# What follows a type's three words: so many bytes, and so many for each of its elements.
_FOLLOWS: dict[int, tuple[int, int]] = {
    Kind.INT: (4, 0),
    Kind.ARRAY: (12, 0),
    Kind.STRUCT: (0, 12),
    Kind.UNION: (0, 12),
    Kind.ENUM: (0, 8),
    Kind.FUNC_PROTO: (0, 8),
    Kind.VAR: (4, 0),
    Kind.DATASEC: (0, 12),
    Kind.DECL_TAG: (4, 0),
    Kind.ENUM64: (0, 12),
}
_SIZED = {Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.DATASEC, Kind.FLOAT, Kind.ENUM64}
_SAME_SIZE = {
    Kind.TYPEDEF,
    Kind.VOLATILE,
    Kind.CONST,
    Kind.RESTRICT,
    Kind.VAR,
    Kind.TYPE_TAG,
}
# What a declaration may say; ``values`` and ``pinning`` are not for us to make.
_MEMBERS = ("type", "key", "value", "key_size", "value_size", "max_entries", "map_flags")


@dataclass(frozen=True, slots=True)
class Type:
    """One type: ``refers`` is its size in bytes or the number of another type, by its kind."""

    name: str
    kind: Kind
    refers: int
    rest: bytes
    flagged: bool = False  # the members of a structure say how wide they are, for bit fields


@dataclass(frozen=True, slots=True)
class Declared:
    """A map as its declaration has it; what it does not say is 0."""

    name: str
    kind: int
    key_size: int
    value_size: int
    entries: int
    flags: int


class Btf:
    """The types of a ``.BTF`` section, by number from 1 on.

    Raises WireError, naming the type by its number, when a type does not end within the section,
    is of an unknown kind, or refers to a name that is not there.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) < _HEADER.size:
            raise WireError(".BTF", f"has {len(data)} bytes, too few for its header", data)
        magic, version, _, length, at, size, names_at, names_size = _HEADER.unpack_from(data)
        if (magic, version) != (_MAGIC, 1) or length < _HEADER.size:
            raise WireError(".BTF", "has no header of version 1", data)
        if max(length + at + size, length + names_at + names_size) > len(data):
            raise WireError(".BTF", f"says that it is longer than its {len(data)} bytes")
        self._names = data[length + names_at : length + names_at + names_size]
        self._types = data[length + at : length + at + size]
        # A kernel has 150,000 types, of which a few are asked for: here is where each begins, and
        # its kind with the place of its name.
        self._starts, self._heads = array("I"), array("Q")
        self._walk()
        self._numbers: dict[tuple[Kind, str], int | None] = {}

    def maps(self) -> list[Declared]:
        """The maps that are declared in the section ``.maps``, in their order.

        Raises WireError for one that says what has no meaning here, such as maps in maps.
        """
        number = self.number(Kind.DATASEC, ".maps")
        if number is None:
            return []
        return [self._declared(one) for one, _, _ in _LINE.iter_unpack(self.type(number).rest)]

    def type(self, number: int) -> Type:
        """The type of this number; 0 is void.  Raises WireError."""
        if not number:
            return Type("void", Kind.VOID, 0, b"")
        if number > len(self._starts):
            raise WireError(".BTF", f"refers to type {number}, of {len(self._starts)}")
        at = self._starts[number - 1]
        name, info, refers = _TYPE.unpack_from(self._types, at)
        kind = Kind(info >> _KIND_SHIFT & _KIND_MASK)
        fixed, each = _FOLLOWS.get(kind, (0, 0))
        at += _TYPE.size
        rest = self._types[at : at + fixed + each * (info & _COUNT_MASK)]
        return Type(self.name(name), kind, refers, rest, bool(info >> 31))

    def number(self, kind: Kind, name: str) -> int | None:
        """The number of the first type of this kind and name; None when there is none."""
        if (kind, name) not in self._numbers:
            sought = name.encode() + b"\0"
            heads, at = set[int](), -1
            # Also at the end of a longer name, which a linker may have found to be the same.
            while (at := self._names.find(sought, at + 1)) >= 0:
                heads.add(kind << _KIND_ABOVE_NAME | at)
            found = (number for number, head in enumerate(self._heads, 1) if head in heads)
            self._numbers[kind, name] = next(found, None) if heads else None
        return self._numbers[kind, name]

    def size(self, number: int) -> int:
        """How many bytes a value of this type takes.  Raises WireError when it takes none."""
        times = 1
        asked = number
        for _ in range(_DEEPEST):
            one = self.type(number)
            if one.kind in _SIZED or one.kind is Kind.PTR:
                found = times * (_POINTER_BYTES if one.kind is Kind.PTR else one.refers)
                if found > _LARGEST:
                    break
                return found
            if one.kind is Kind.ARRAY:
                number, _, count = _ARRAY.unpack(one.rest)
                times *= count
            elif one.kind in _SAME_SIZE:
                number = one.refers
            else:
                break
        raise WireError(".BTF", f"type {asked} has no size")

    def name(self, offset: int) -> str:
        """The string at this offset of the section's strings.  Raises WireError."""
        end = self._names.find(b"\0", offset, offset + LONGEST_NAME + 1)
        if end < 0:
            raise WireError(".BTF", f"has no name within {LONGEST_NAME} bytes at {offset}")
        return self._names[offset:end].decode(errors="backslashreplace")

    def _walk(self) -> None:
        data, size = self._types, len(self._types)
        at, number = 0, 1
        while at < size:
            if at + _TYPE.size > size:
                raise WireError(".BTF", f"ends within type {number}")
            name, info, _ = _TYPE.unpack_from(data, at)
            kind = info >> _KIND_SHIFT & _KIND_MASK
            if kind not in _KINDS:
                raise WireError(".BTF", f"type {number} is of kind {kind}")
            if self._names.find(b"\0", name, name + LONGEST_NAME + 1) < 0:
                self.name(name)  # raises
            self._starts.append(at)
            self._heads.append(kind << _KIND_ABOVE_NAME | name)
            fixed, each = _FOLLOWS.get(kind, (0, 0))
            at += _TYPE.size + fixed + each * (info & _COUNT_MASK)
            if at > size:
                raise WireError(".BTF", f"ends within type {number}")
            number += 1

    def _declared(self, number: int) -> Declared:
        variable = self.type(number)
        structure = self.type(variable.refers)
        if variable.kind is not Kind.VAR or structure.kind is not Kind.STRUCT:
            raise WireError(".BTF", f"the map {variable.name!r} is not a structure")
        if len(structure.rest) > len(_MEMBERS) * _MEMBER.size:
            raise WireError(".BTF", f"the map {variable.name!r} says more than there is to say")
        said: dict[str, int] = {}
        for at, type_number, _ in _MEMBER.iter_unpack(structure.rest):
            member = self.name(at)
            pointer = self.type(type_number)
            if member not in _MEMBERS or pointer.kind is not Kind.PTR:
                raise WireError(
                    ".BTF",
                    f"the map {variable.name!r} says {member!r}, which Segue does not know"
                    f" ({', '.join(_MEMBERS)})",
                )
            if member in {"key", "value"}:
                said[f"{member}_size"] = self.size(pointer.refers)
                continue
            array = self.type(pointer.refers)
            if array.kind is not Kind.ARRAY:
                raise WireError(".BTF", f"the map {variable.name!r} has no number as {member}")
            said[member] = _ARRAY.unpack(array.rest)[2]
        return Declared(
            variable.name,
            said.get("type", 0),
            said.get("key_size", 0),
            said.get("value_size", 0),
            said.get("max_entries", 0),
            said.get("map_flags", 0),
        )


def relocated_by_type(btf: Btf, ext: bytes) -> set[str]:
    """The sections whose instructions wait for the running kernel's types (CO-RE), by name.

    ``ext`` is the section ``.BTF.ext``.  Raises WireError.
    """
    where = ".BTF.ext"
    if len(ext) < _HEADER.size:
        raise WireError(where, f"has {len(ext)} bytes, too few for its header", ext)
    magic, version, _, length = struct.unpack_from("<HBBI", ext)
    if (magic, version) != (_MAGIC, 1):
        raise WireError(where, "has no header of version 1", ext)
    if length < _EXT_HEADER.size or len(ext) < _EXT_HEADER.size:
        return set()  # from before there were such relocations
    *_, offset, size = _EXT_HEADER.unpack_from(ext)
    if not size:
        return set()
    table = ext[length + offset : length + offset + size]
    if len(table) != size or size < 4:
        raise WireError(where, f"says that it is longer than its {len(ext)} bytes")
    record: int = struct.unpack_from("<I", table)[0]
    found: set[str] = set()
    at = 4
    while at < size:
        if at + 8 > size:
            raise WireError(where, "ends within its relocations")
        name, count = struct.unpack_from("<II", table, at)
        at += 8 + record * count
        if at > size:
            raise WireError(where, "ends within its relocations")
        if count:
            found.add(btf.name(name))
    return found
