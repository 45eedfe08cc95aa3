"""From a compiled object file to one program and the maps it uses, as a value.

What libbpf does before it asks the kernel for anything: the program's function and those it calls
are put one behind the other, calls get their distances, and every place that needs a map is noted.
Variables become maps of one element, a map for each of the sections .bss, .data and .rodata.

Raises WireError for a malformed file, and UsageError for what is sound and not to be had here:
relocations by the kernel's types (CO-RE), functions and variables of the kernel, callbacks.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from segue.bpf import insn
from segue.bpf.btf import Btf, relocated_by_type
from segue.bpf.elf import Elf, Kind, Relocation, Section, Symbol, SymbolKind
from segue.bpf.insn import Instruction, Jump, decode
from segue.errors import UsageError, WireError

# A program in either is asked about connections that migrate too: see ``segue.policy.object``.
PROGRAM_SECTIONS = ("sk_reuseport/migrate", "sk_reuseport")

# Far more than a decision about one connection takes; the kernel's own limit is a million.
MOST_SLOTS = 1 << 16

# MAX_USED_MAPS of the kernel.
MOST_MAPS = 64
# Of variables in one section; more is for a map of its own.
LARGEST_VALUE = 1 << 20
_NAMED = 4  # of many, in a sentence

_ARRAY = 2  # BPF_MAP_TYPE_ARRAY
_INSTRUCTION_64 = 1  # R_BPF_64_64
_CALL_32 = 10  # R_BPF_64_32
_CALL = insn.JMP | Jump.CALL
_LEGACY = struct.Struct("<IIIII")  # struct bpf_map_def, from before BTF
_IDENTIFIER = re.compile(r"[A-Za-z_.][A-Za-z0-9_.]*")
_VARIABLES = (".bss", ".data", ".rodata")


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A map to be made.  ``content`` is what the one element of a map of variables begins with."""

    name: str
    kind: int
    key_size: int
    value_size: int
    entries: int
    flags: int = 0
    content: bytes | None = None
    constant: bool = False  # nobody may write to it


@dataclass(frozen=True, slots=True)
class Variable:
    """A global variable: where it stands in which of the object's maps."""

    name: str
    map: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Reference:
    """An instruction that loads a map, or an address ``offset`` bytes into its one element."""

    instruction: int
    map: int
    offset: int | None


@dataclass(frozen=True, slots=True)
class Object:
    """One program, and the maps it uses by their place in ``maps``."""

    name: str
    instructions: tuple[Instruction, ...]
    references: tuple[Reference, ...]
    maps: tuple[MapSpec, ...]
    variables: tuple[Variable, ...]
    license_text: str

    def linked(self, descriptors: Sequence[int]) -> list[Instruction]:
        """The program over these maps, one descriptor for each of ``maps``."""
        program = list(self.instructions)
        for one in self.references:
            load = program[one.instruction]
            source, upper = insn.PSEUDO_MAP_FD, 0
            if one.offset is not None:
                source, upper = insn.PSEUDO_MAP_VALUE, one.offset
            imm = upper << 32 | descriptors[one.map]
            program[one.instruction] = replace(load, src=source, imm=imm)
        return program

    def variable(self, name: str) -> Variable | None:
        """The variable of this name that can be written, or None."""
        return next(
            (one for one in self.variables if one.name == name and not self.maps[one.map].constant),
            None,
        )


def read(data: bytes) -> Object:
    """The program of an object file.

    There must be exactly one function in PROGRAM_SECTIONS.  Programs for other hooks, in other
    sections, are left alone.
    """
    elf = Elf(data)
    _refuse_gcc(elf)
    main = _program(elf)
    declared = _declared(elf)
    specs = [spec for spec, _ in declared]
    homes = {place: number for number, (_, place) in enumerate(declared)}
    variables: dict[int, int] = {}
    for section in elf.sections:
        spec = _variables(elf, section)
        if spec is not None:
            variables[section.index] = len(specs)
            specs.append(spec)
        if len(specs) > MOST_MAPS:
            raise UsageError(f"it has more than {MOST_MAPS} maps, all that a program can use")
    code = _Code(elf, specs, homes, variables)
    code.place(main)
    _refuse_kernel_types(elf, code.sections)
    return Object(
        main.name,
        tuple(code.instructions),
        tuple(code.references),
        tuple(specs),
        tuple(_named(elf, specs, variables)),
        _license(elf),
    )


def _refuse_gcc(elf: Elf) -> None:
    """GCC 12 writes a variable's place both into its symbol and into the instruction, where clang
    writes the distance from the symbol: read as clang's, each would be another variable.
    """
    comment = elf.section(".comment")
    if comment is not None and elf.content(comment).lstrip(b"\0").startswith(b"GCC:"):
        raise UsageError("it was compiled by GCC, which links otherwise: compile with clang")


def _program(elf: Elf) -> Symbol:
    names = {one.index: one.name for one in elf.sections if one.name in PROGRAM_SECTIONS}
    found = [one for one in elf.symbols if one.kind == SymbolKind.FUNC and one.section in names]
    if not found:
        code = [repr(one.name) for one in elf.sections if one.executable and one.size]
        others = ", ".join(code[:_NAMED])
        raise UsageError(
            f"there is no program in a section {PROGRAM_SECTIONS[0]!r}"
            f' (code is in {others or "none"}); put SEC("{PROGRAM_SECTIONS[0]}") before it'
        )
    if len(found) > 1:
        listed = ", ".join(f"{one.name} in {names[one.section]}" for one in found[:_NAMED])
        raise UsageError(f"there is more than one program ({listed}); keep one")
    return found[0]


def _license(elf: Elf) -> str:
    section = elf.section("license")
    if section is None:
        return ""
    return elf.content(section).partition(b"\0")[0].decode("ascii", errors="replace")


def _declared(elf: Elf) -> list[tuple[MapSpec, tuple[int, int]]]:
    """Each declared map, and the section and offset by which instructions refer to it."""
    found: list[tuple[MapSpec, tuple[int, int]]] = []
    modern, legacy = elf.section(".maps"), elf.section("maps")
    if modern is not None and modern.size:
        btf = elf.section(".BTF")
        if btf is None:
            raise UsageError("its maps are described in BTF, which is not there: compile with -g")
        places = {one.name: one for one in elf.symbols if one.section == modern.index}
        for one in Btf(elf.content(btf)).maps():
            if one.name not in places:
                raise WireError(".BTF", f"describes a map {one.name!r} that has no symbol")
            spec = MapSpec(one.name, one.kind, one.key_size, one.value_size, one.entries, one.flags)
            found.append((spec, (modern.index, places[one.name].value)))
    if legacy is not None and legacy.size:
        content = elf.content(legacy)
        for symbol in elf.symbols:
            if symbol.section != legacy.index or symbol.kind == SymbolKind.SECTION:
                continue
            if symbol.value + _LEGACY.size > len(content):
                raise WireError("section maps", f"ends within the map {symbol.name!r}")
            spec = MapSpec(symbol.name, *_LEGACY.unpack_from(content, symbol.value))
            found.append((spec, (legacy.index, symbol.value)))
    for spec, _ in found:
        if not _IDENTIFIER.fullmatch(spec.name):
            raise WireError("symbols", f"name a map {spec.name!r}")
    return found


def _variables(elf: Elf, section: Section) -> MapSpec | None:
    """The map of this section's variables; None when it has none."""
    base = next((one for one in _VARIABLES if f"{section.name}.".startswith(f"{one}.")), "")
    if not base or not section.allocated or not section.size:
        return None
    if section.size > LARGEST_VALUE:
        raise UsageError(
            f"it has {section.size} bytes of variables in {section.name}, above {LARGEST_VALUE}"
        )
    content = bytes(section.size) if section.kind == Kind.NOBITS else elf.content(section)
    if not _IDENTIFIER.fullmatch(section.name):
        raise WireError("sections", f"name one {section.name!r}")
    if elf.relocations(section):
        raise UsageError(
            f"a variable in {section.name} begins as the address of another, which no map can hold"
        )
    constant = base == ".rodata"
    return MapSpec(section.name, _ARRAY, 4, section.size, 1, 0, content, constant)


def _named(elf: Elf, specs: Sequence[MapSpec], variables: Mapping[int, int]) -> Iterator[Variable]:
    for one in elf.symbols:
        if one.kind == SymbolKind.OBJECT and one.section in variables:
            place = variables[one.section]
            if one.value + one.size > specs[place].value_size:
                raise WireError(f"variable {one.name}", f"is not within {specs[place].name}")
            yield Variable(one.name, place, one.value, one.size)


def _refuse_kernel_types(elf: Elf, sections: set[int]) -> None:
    types, ext = elf.section(".BTF"), elf.section(".BTF.ext")
    if types is None or ext is None:
        return
    waiting = relocated_by_type(Btf(elf.content(types)), elf.content(ext))
    for number in sorted(sections):
        name = elf.sections[number].name
        if name in waiting:
            raise UsageError(
                f"section {name} waits for the running kernel's types (CO-RE), which Segue does"
                " not fill in: include <linux/bpf.h> in place of vmlinux.h, and leave out"
                " preserve_access_index and BPF_CORE_READ"
            )


class _Code:
    """Functions one behind the other, beginning with the program."""

    def __init__(
        self,
        elf: Elf,
        specs: Sequence[MapSpec],
        homes: Mapping[tuple[int, int], int],
        variables: Mapping[int, int],
    ) -> None:
        self.instructions: list[Instruction] = []
        self.references: list[Reference] = []
        self.sections: set[int] = set()
        self._elf, self._specs, self._homes, self._variables = elf, specs, homes, variables
        self._functions = {
            (one.section, one.value): one for one in elf.symbols if one.kind == SymbolKind.FUNC
        }
        self._relocations: dict[int, dict[int, Relocation]] = {}
        self._slots = 0

    def place(self, main: Symbol) -> None:
        """Append the function and all that it calls, each once."""
        places: dict[tuple[int, int], int] = {}
        calls: list[tuple[int, int, tuple[int, int]]] = []
        waiting = [(main.section, main.value)]
        for where in waiting:
            if where in places:
                continue
            places[where] = self._slots
            for number, slot, target in self._append(self._functions[where]):
                calls.append((number, slot, target))
                waiting.append(target)
        for number, slot, target in calls:
            call = self.instructions[number]
            self.instructions[number] = replace(call, imm=places[target] - slot - 1)

    def _append(self, function: Symbol) -> list[tuple[int, int, tuple[int, int]]]:
        """The calls in it: which instruction, at which slot, of which function."""
        section = self._elf.sections[function.section]
        where = f"function {function.name}"
        end = function.value + function.size
        if not section.executable or section.kind != Kind.PROGBITS or end > section.size:
            raise WireError(where, f"is not within the code of section {section.name}")
        if self._slots + function.size // insn.SLOT_BYTES > MOST_SLOTS:
            raise UsageError(f"the program has more than {MOST_SLOTS} instructions")
        self.sections.add(section.index)
        relocations = self._of(section)
        code = self._elf.content(section)[function.value : end]
        try:
            instructions = decode(code)
        except WireError as error:
            raise WireError(f"{where}, {error.where}", error.why, error.data) from None
        calls: list[tuple[int, int, tuple[int, int]]] = []
        at = function.value
        for one in instructions:
            found = relocations.get(at)
            number = len(self.instructions)
            if one.wide:
                if found is not None:
                    self.references.append(self._reference(where, number, one, found))
                elif one.src != insn.PSEUDO_NUMBER:
                    # A descriptor's number in a file would be any file that we have open.
                    raise WireError(where, f"loads a map by number, at byte {at}")
            elif one.opcode == _CALL and (found is not None or one.src):
                target = self._target(where, section, at, one, found)
                calls.append((number, self._slots, target))
            elif found is not None:
                raise WireError(where, f"has a relocation of no load and no call, at byte {at}")
            self.instructions.append(one)
            self._slots += one.slots
            at += one.slots * insn.SLOT_BYTES
        return calls

    def _of(self, section: Section) -> dict[int, Relocation]:
        if section.index not in self._relocations:
            found = self._elf.relocations(section)
            self._relocations[section.index] = {one.offset: one for one in found}
        return self._relocations[section.index]

    def _reference(
        self, where: str, number: int, load: Instruction, found: Relocation
    ) -> Reference:
        symbol = found.symbol
        if found.kind != _INSTRUCTION_64:
            raise WireError(where, f"loads by a relocation of kind {found.kind}")
        if not symbol.defined:
            raise UsageError(
                f"{where} uses {symbol.name!r}, which the object does not define; variables of the"
                " kernel (__ksym, __kconfig) cannot be used"
            )
        offset = symbol.value + _signed(load.imm & 0xFFFFFFFF)
        if symbol.section in self._variables:
            place = self._variables[symbol.section]
            if not 0 <= offset < self._specs[place].value_size:
                raise WireError(where, f"uses byte {offset} of {self._specs[place].name}")
            return Reference(number, place, offset)
        if (symbol.section, offset) in self._homes:
            return Reference(number, self._homes[symbol.section, offset], None)
        section = self._elf.sections[symbol.section]
        if section.executable:
            raise UsageError(
                f"{where} takes the address of a function in {section.name}; callbacks"
                " (bpf_loop, timers) cannot be used"
            )
        raise WireError(where, f"uses byte {offset} of section {section.name}, where no map is")

    def _target(
        self, where: str, section: Section, at: int, call: Instruction, found: Relocation | None
    ) -> tuple[int, int]:
        if call.src != insn.PSEUDO_CALL or (found is not None and not found.symbol.defined):
            name = repr(found.symbol.name) if found is not None else f"number {call.imm}"
            raise UsageError(
                f"{where} calls {name}, which the object does not define; functions of the kernel"
                " that are no helpers (__ksym) cannot be used, others link in with bpftool gen"
                " object"
            )
        if found is None:
            target = (section.index, at + (call.imm + 1) * insn.SLOT_BYTES)
        else:
            if found.kind != _CALL_32:
                raise WireError(where, f"calls by a relocation of kind {found.kind}")
            offset = found.symbol.value + (call.imm + 1) * insn.SLOT_BYTES
            target = (found.symbol.section, offset)
        if target not in self._functions:
            name = self._elf.sections[target[0]].name
            raise WireError(where, f"calls byte {target[1]} of {name}, where no function begins")
        return target


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word
