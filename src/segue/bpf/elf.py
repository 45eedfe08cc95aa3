"""A compiled BPF object file, as far as a loader needs it: sections, symbols, relocations.

What ``clang -target bpf -c`` writes: ELF, 64 bits, little-endian, relocatable, machine EM_BPF, with
relocations of the kind REL, whose addend stands in the instruction (System V gABI, chapters 4 and
5).  Left out: segments, groups, compressed sections, more than 65,279 sections.

Nothing is copied or read before it is asked for: a small file that claims much costs little.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from segue.errors import WireError

EM_BPF = 247
_ET_REL = 1
_CLASS_64 = 2
_LITTLE_ENDIAN = 1

_HEADER = struct.Struct("<4sBBBB8xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQ")

# Section indexes that name no section.
UNDEFINED = 0
_RESERVED = 0xFF00

ALLOCATED = 0x2  # SHF_ALLOC
EXECUTABLE = 0x4  # SHF_EXECINSTR

# Bounds what the names of a crafted file can cost: each may be the end of the same long text.
LONGEST_NAME = 255


class Kind(IntEnum):
    """What a section holds (sh_type); others are carried and never read."""

    NULL = 0
    PROGBITS = 1
    SYMTAB = 2
    STRTAB = 3
    RELA = 4
    NOBITS = 8  # takes no room in the file: all zero
    REL = 9


class SymbolKind(IntEnum):
    """What a symbol names (the low half of st_info)."""

    NOTYPE = 0
    OBJECT = 1
    FUNC = 2
    SECTION = 3


@dataclass(frozen=True, slots=True)
class Section:
    """One row of the section table; its bytes are had from ``Elf.content``."""

    index: int
    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int

    @property
    def allocated(self) -> bool:
        """A program that runs needs it in memory."""
        return bool(self.flags & ALLOCATED)

    @property
    def executable(self) -> bool:
        """It holds instructions."""
        return bool(self.flags & EXECUTABLE)


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name for a place in a section; ``section`` 0 means that somebody else must define it."""

    name: str
    kind: int
    section: int
    value: int  # bytes from the section's beginning
    size: int

    @property
    def defined(self) -> bool:
        """It is a place in a section of this file."""
        return UNDEFINED < self.section < _RESERVED


@dataclass(frozen=True, slots=True)
class Relocation:
    """At ``offset`` bytes of a section stands a number that depends on where a symbol goes."""

    offset: int
    kind: int
    symbol: Symbol


class Elf:
    """A file's sections and symbols.  Raises WireError when it is no BPF object file.

    ``where`` in the error is the table or section, and the reason says what is wrong with it.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        table, count, names = self._header()
        rows = [self._row(table, number) for number in range(count)]
        if count and not 0 < names < count:
            raise WireError("ELF header", f"names section {names}, of {count}, as that of names")
        self.sections = tuple(
            Section(
                number,
                self._name(rows[names], row.name, f"section {number}"),
                row.kind,
                row.flags,
                row.offset,
                row.size,
                row.link,
                row.info,
            )
            for number, row in enumerate(rows)
        )
        self.symbols = tuple(self._symbols())
        self._tables: dict[int, list[Section]] = {}
        for one in self.sections:
            if one.kind in {Kind.REL, Kind.RELA}:
                self._tables.setdefault(one.info, []).append(one)
        # Tables of a sound file do not overlap, so no more relocations fit into it than this.
        self._left = len(data) // _RELOCATION.size
        self._read: dict[int, list[Relocation]] = {}

    def section(self, name: str) -> Section | None:
        """The first section of this name, or None."""
        return next((one for one in self.sections if one.name == name), None)

    def content(self, section: Section) -> bytes:
        """Its bytes.  Raises WireError for a section without any in the file (NOBITS)."""
        if section.kind == Kind.NOBITS:
            raise WireError(f"section {section.name}", "has no bytes in the file")
        return self._data[section.offset : section.offset + section.size]

    def relocations(self, section: Section) -> list[Relocation]:
        """What has to be filled in where in this section, by ascending offset.

        Raises WireError, also for relocations with an addend of their own (RELA), which clang
        does not write for this machine.
        """
        if section.index not in self._read:
            self._read[section.index] = self._relocations(section)
        return self._read[section.index]

    def _relocations(self, section: Section) -> list[Relocation]:
        found: list[Relocation] = []
        tables = self._tables.get(section.index, [])
        if len(tables) > 1:
            raise WireError(f"section {section.name}", "has more than one table of relocations")
        for table in tables:
            where = f"section {table.name}"
            if table.kind == Kind.RELA:
                raise WireError(where, "has relocations of the kind RELA; compile with clang")
            data = self.content(table)
            if len(data) % _RELOCATION.size:
                raise WireError(where, f"is not a whole number of relocations ({len(data)} bytes)")
            self._left -= len(data) // _RELOCATION.size
            if self._left < 0:
                raise WireError(where, "lies over another table of relocations")
            for offset, info in _RELOCATION.iter_unpack(data):
                number = info >> 32
                if number >= len(self.symbols):
                    raise WireError(where, f"refers to symbol {number}, of {len(self.symbols)}")
                if offset >= section.size:
                    raise WireError(where, f"relocates byte {offset} of {section.size}")
                found.append(Relocation(offset, info & 0xFFFFFFFF, self.symbols[number]))
        return sorted(found, key=lambda one: one.offset)

    def _header(self) -> tuple[int, int, int]:
        """Where the section table is, how many rows it has, and which one has the names."""
        where = "ELF header"
        if self._data[:4] != b"\x7fELF":
            raise WireError(where, "is not there: this is not an ELF file", self._data[:4])
        if len(self._data) < _HEADER.size:
            raise WireError(where, f"has {len(self._data)} bytes, not {_HEADER.size}")
        fields = _HEADER.unpack_from(self._data)
        _, width, order, _, _, kind, machine, _, _, _, table, _, _, _, _, row, count, names = fields
        if width != _CLASS_64:
            raise WireError(where, "is of a 32-bit file; BPF objects have 64 bits")
        if order != _LITTLE_ENDIAN:
            raise WireError(where, "is of a big-endian file; compile with -target bpfel")
        if machine != EM_BPF:
            raise WireError(
                where, f"is for machine {machine}, not for BPF ({EM_BPF}); compile with -target bpf"
            )
        if kind != _ET_REL:
            raise WireError(where, f"is of a file of type {kind}, not of an object file (clang -c)")
        if row != _SECTION.size:
            raise WireError(where, f"says that a section's row has {row} bytes")
        if not count or table + count * row > len(self._data):
            raise WireError(where, f"says that {count} sections are described at byte {table}")
        return table, count, names

    def _row(self, table: int, number: int) -> _Row:
        name, kind, flags, _, offset, size, link, info, _, _ = _SECTION.unpack_from(
            self._data, table + number * _SECTION.size
        )
        where = f"section {number}"
        if kind not in {Kind.NULL, Kind.NOBITS} and offset + size > len(self._data):
            raise WireError(where, f"ends at byte {offset + size} of {len(self._data)}")
        return _Row(name, kind, flags, offset, size, link, info)

    def _name(self, strings: _Row | Section, offset: int, where: str) -> str:
        """The string at this offset of a string table."""
        if strings.kind != Kind.STRTAB:
            raise WireError(where, "has its name in a section that is not a table of strings")
        begin = strings.offset + offset
        last = min(strings.offset + strings.size, begin + LONGEST_NAME + 1)
        end = self._data.find(b"\0", begin, last)
        if end < 0:
            raise WireError(where, f"has no name within {LONGEST_NAME} bytes at {offset}")
        return self._data[begin:end].decode(errors="backslashreplace")

    def _symbols(self) -> Iterator[Symbol]:
        tables = [one for one in self.sections if one.kind == Kind.SYMTAB]
        if len(tables) > 1:
            raise WireError(f"section {tables[1].name}", "is a second table of symbols")
        for table in tables:
            where = f"section {table.name}"
            if table.size % _SYMBOL.size:
                raise WireError(where, f"is not a whole number of symbols ({table.size} bytes)")
            if table.link >= len(self.sections):
                raise WireError(where, f"has its names in section {table.link}, which is not there")
            strings = self.sections[table.link]
            entries = _SYMBOL.iter_unpack(self.content(table))
            for number, (name, info, _, section, value, size) in enumerate(entries):
                if len(self.sections) <= section < _RESERVED:
                    raise WireError(
                        f"symbol {number}", f"is in section {section}, which is not there"
                    )
                text = self._name(strings, name, f"symbol {number}")
                yield Symbol(text, info & 0xF, section, value, size)


@dataclass(frozen=True, slots=True)
class _Row:
    name: int
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
