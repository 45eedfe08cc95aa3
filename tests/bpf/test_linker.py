"""Objects to programs: golden ones that clang built, and small ones made by hand."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bpf.objects import CALL, GOLDEN, HOOK, LOAD, OBJECTS, PASS, SOCKARRAY, File, policy
from tests.bpf.test_btf import Types, extension

from segue.bpf import asm, insn, linker
from segue.bpf.disasm import disassemble
from segue.bpf.elf import ALLOCATED, EXECUTABLE, Kind, SymbolKind
from segue.bpf.insn import R0, R1, Instruction, Size, encode
from segue.bpf.linker import MapSpec, Reference, Variable, read
from segue.errors import UsageError, WireError

WAITS = asm.mov_imm64(R1, 0)
CALLS = Instruction(insn.JMP | insn.Jump.CALL, src=insn.PSEUDO_CALL, imm=-1)


def test_the_objects_are_what_their_sources_were_built_to() -> None:
    """A source that changed is to be built again: tests/golden/objects/build says how."""
    listed = (GOLDEN / "built.txt").read_text().splitlines()[1:]
    digests = {name: digest for digest, name in (line.split("  ") for line in listed)}
    found = {
        one.name: hashlib.sha256(one.read_bytes()).hexdigest()
        for one in GOLDEN.iterdir()
        if one.suffix in {".c", ".o"}
    }
    assert found == digests
    assert len(OBJECTS) == len(found) // 2


def test_maps_come_from_their_declarations() -> None:
    """Kind, sizes and entries by BTF; variables become maps of one element, with their values."""
    found = read((GOLDEN / "by_cookie.bpf.o").read_bytes())
    assert {spec.name: spec for spec in found.maps} == {
        "listeners": MapSpec("listeners", 20, 4, 8, 64),
        "heirs": MapSpec("heirs", 1, 8, 4, 64),
        ".rodata": MapSpec(".rodata", 2, 4, 4, 1, 0, b"\1\0\0\0", constant=True),
        ".data": MapSpec(".data", 2, 4, 2, 1, 0, b"\7\0"),
        ".bss": MapSpec(".bss", 2, 4, 16, 1, 0, bytes(16)),
    }
    bss = [spec.name for spec in found.maps].index(".bss")
    assert found.variable("by_ack") == Variable("by_ack", bss, 8, 4)
    assert found.variable("cancel_unknown") is None  # a constant
    assert found.variable("absent") is None
    assert (found.name, found.license_text) == ("by_cookie", "Apache-2.0")


def test_a_function_that_is_called_is_put_behind_the_program() -> None:
    """Its variables are referred to, and the call reaches it."""
    found = read((GOLDEN / "by_cookie.bpf.o").read_bytes())
    names = dict(enumerate(spec.name for spec in found.maps))
    listing = disassemble(found.linked(range(len(found.maps))), names)
    call = next(line for line in listing.splitlines() if "call slot" in line)
    assert int(call.split()[-1]) == 38
    after = listing.split("(95) exit")[1]
    assert "r2 = map .bss value +8" in after


def test_the_sizes_of_structures_and_arrays_are_followed() -> None:
    """A table of 4,096 slots, a number and a list, as the map that Segue fills has it."""
    found = read((GOLDEN / "table.bpf.o").read_bytes())
    sizes = {spec.name: (spec.value_size, spec.entries) for spec in found.maps}
    assert sizes == {
        "sockets": (8, 1024),
        "tables": (8328, 2),
        "control": (8, 1),
        "counters": (48, 1025),
    }


def test_legacy_definitions_are_read() -> None:
    """Structures bpf_map_def in a section ``maps``, from before BTF."""
    made = File()
    code = made.function(HOOK, [WAITS, *PASS])
    maps = made.maps(sockets=SOCKARRAY, mine=(1, 8, 4, 10, 1))
    made.relocate(code, 0, maps["mine"])
    found = read(made.build())
    assert found.maps == (
        MapSpec("sockets", 20, 4, 8, 64),
        MapSpec("mine", 1, 8, 4, 10, 1),
    )
    assert found.references == (Reference(0, 1, None),)
    assert found.linked([7, 9])[0] == asm.load_map(R1, 9)


def test_the_plain_section_will_do_and_no_license_is_the_empty_one() -> None:
    """``sk_reuseport`` names the same hook."""
    made = File()
    made.function("sk_reuseport", PASS, "plain")
    found = read(made.build())
    assert (found.name, found.license_text) == ("plain", "")


def test_a_static_variable_is_found_by_its_distance() -> None:
    """Its relocation names the section, and the instruction says how far into it."""
    made = File()
    code = made.function(HOOK, [asm.mov_imm64(R1, 12), *PASS])
    data = made.section(".data", bytes(16), flags=ALLOCATED)
    made.relocate(code, 0, made.symbol("", data, kind=SymbolKind.SECTION))
    found = read(made.build())
    assert found.references == (Reference(0, 0, 12),)
    assert found.linked([5])[0].imm == 12 << 32 | 5
    assert found.linked([5])[0].src == insn.PSEUDO_MAP_VALUE


def test_calls_reach_functions_of_other_sections_each_placed_once() -> None:
    """By a symbol, by a distance from the section's beginning, and within one section."""
    made = File()
    code = made.function(HOOK, [CALLS, CALLS, *PASS], "main")
    inner = Instruction(insn.JMP | insn.Jump.CALL, src=insn.PSEUDO_CALL, imm=-4)
    body = encode([*PASS, asm.mov_imm(R0, 2), inner, asm.leave()])
    text = made.section(".text", body, flags=ALLOCATED | EXECUTABLE)
    made.symbol("first", text, 0, 16, SymbolKind.FUNC)
    second = made.symbol("second", text, 16, 24, SymbolKind.FUNC)
    made.relocate(code, 0, second, CALL)
    made.relocate(code, 1, second, CALL)
    found = read(made.build())
    # main is slots 0 to 3, second 4 to 6, first 7 and 8.
    assert [one.imm for one in found.instructions if one.src == insn.PSEUDO_CALL] == [3, 2, 1]
    assert len(found.instructions) == 9


def with_load(symbol_section: str, *, defined: bool = True, value: int = 0) -> File:
    """An object whose program loads from a symbol in such a section."""
    made = File()
    code = made.function(HOOK, [WAITS, *PASS])
    flags = ALLOCATED | (EXECUTABLE if symbol_section == ".text" else 0)
    section = made.section(symbol_section, encode(PASS), flags=flags)
    symbol = made.symbol("thing", section if defined else 0, value, 8, SymbolKind.FUNC)
    made.relocate(code, 0, symbol)
    return made


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (with_load(".text"), "takes the address of a function in .text"),
        (with_load(".ksyms", defined=False), "uses 'thing', which the object does not define"),
        (with_load("other"), "uses byte 0 of section other, where no map is"),
        (with_load(".data", value=16), "uses byte 16 of .data"),
    ],
)
def test_what_cannot_be_referred_to_is_refused(made: File, said: str) -> None:
    """With the function and what it asked for."""
    with pytest.raises((UsageError, WireError), match=f"function f.*{said}"):
        read(made.build())


def test_what_is_no_program_of_ours_is_refused_with_what_is_there() -> None:
    """None, two, or one whose function is not within its section."""
    made = File()
    made.function("xdp", PASS)
    with pytest.raises(UsageError, match=r"no program in a section.*code is in 'xdp'"):
        read(made.build())
    with pytest.raises(UsageError, match="code is in none"):
        read(File().build())
    made = File()
    made.function(HOOK, PASS, "a")
    made.function("sk_reuseport", PASS, "b")
    with pytest.raises(UsageError, match=r"more than one program \(a in .*, b in sk_reuseport\)"):
        read(made.build())
    made = File()
    code = made.section(HOOK, encode(PASS), flags=EXECUTABLE)
    made.symbol("f", code, 8, 16, SymbolKind.FUNC)
    with pytest.raises(WireError, match="function f: is not within the code"):
        read(made.build())


def test_an_object_of_gcc_is_refused() -> None:
    """It would be linked to other variables than it means."""
    made = File()
    made.function(HOOK, PASS)
    made.section(".comment", b"\0GCC: (12.2.0) 12.2.0\0")
    with pytest.raises(UsageError, match="compiled by GCC"):
        read(made.build())


def test_calls_that_lead_nowhere_are_refused() -> None:
    """To the kernel's own functions, to the middle of one, or by the wrong kind of relocation."""
    made = File()
    code = made.function(HOOK, [CALLS, *PASS])
    made.relocate(code, 0, made.symbol("bpf_kfunc", 0), CALL)
    with pytest.raises(UsageError, match="calls 'bpf_kfunc', which the object does not define"):
        read(made.build())
    aside = Instruction(insn.JMP | insn.Jump.CALL, src=insn.PSEUDO_CALL, imm=0)
    with pytest.raises(WireError, match=r"calls byte 8 .* where no function begins"):
        read(policy([aside, *PASS]))
    made = File()
    code = made.function(HOOK, [CALLS, *PASS])
    made.relocate(code, 0, 1, LOAD)
    with pytest.raises(WireError, match="calls by a relocation of kind 1"):
        read(made.build())
    made = File()
    code = made.function(HOOK, [asm.load(Size.U32, R0, R1, 0), *PASS])
    made.relocate(code, 0, 1, LOAD)
    with pytest.raises(WireError, match="relocation of no load and no call"):
        read(made.build())


def test_a_descriptor_in_a_file_is_refused() -> None:
    """It would be whatever this process has open under that number."""
    with pytest.raises(WireError, match="loads a map by number, at byte 0"):
        read(policy([asm.load_map(R1, 3), *PASS]))


def test_variables_that_no_map_can_hold_are_refused() -> None:
    """Those that begin as an address or end past the end, and more than there is room for."""
    made = File()
    made.function(HOOK, PASS)
    data = made.section(".data", bytes(8), flags=ALLOCATED)
    made.relocate(data, 0, 1, 2)
    with pytest.raises(UsageError, match=r"variable in .data begins as the address"):
        read(made.build())
    made = File()
    made.function(HOOK, PASS)
    data = made.section(".data", bytes(8), flags=ALLOCATED)
    made.symbol("late", data, 4, 8, SymbolKind.OBJECT)
    with pytest.raises(WireError, match=r"variable late: is not within \.data"):
        read(made.build())
    made = File()
    made.function(HOOK, PASS)
    made.section(".bss", b"", flags=ALLOCATED, kind=Kind.NOBITS, size=1 << 40)
    with pytest.raises(UsageError, match=r"has 1099511627776 bytes of variables in \.bss"):
        read(made.build())


def test_more_maps_than_a_program_can_use_are_refused() -> None:
    """Before any of them is made."""
    made = File()
    made.function(HOOK, PASS)
    for number in range(linker.MOST_MAPS + 1):
        made.section(f".data.{number}", bytes(4), flags=ALLOCATED)
    with pytest.raises(UsageError, match="more than 64 maps"):
        read(made.build())


def test_maps_without_their_types_are_refused() -> None:
    """The section is there, and no BTF: it was compiled without -g."""
    made = File()
    made.function(HOOK, PASS)
    made.section(".maps", bytes(32))
    with pytest.raises(UsageError, match="compile with -g"):
        read(made.build())


def test_a_program_that_waits_for_the_kernels_types_is_refused() -> None:
    """What it waits for is said, and how to do without; other sections may wait."""
    for section, refused in ((HOOK, True), ("xdp", False)):
        types = Types()
        name = types.name(section)
        made = File()
        made.function(HOOK, PASS)
        made.section(".BTF", types.build())
        made.section(".BTF.ext", extension({name: 1}))
        if refused:
            with pytest.raises(UsageError, match=rf"{HOOK} waits for .* types \(CO-RE\)"):
                read(made.build())
        else:
            assert read(made.build()).name == "f"


def test_a_program_beyond_the_limit_is_refused_before_it_is_read() -> None:
    """Functions that overlap in a crafted file would else be read over and over."""
    made = File()
    code = made.function(HOOK, [asm.mov_imm(R0, 0)] * linker.MOST_SLOTS + [asm.leave()])
    assert code == 1
    with pytest.raises(UsageError, match="more than 65536 instructions"):
        read(made.build())


@settings(max_examples=300)
@given(st.sampled_from(OBJECTS), st.data())
def test_no_damage_does_worse_than_a_sentence(name: str, data: st.DataObject) -> None:
    """Numbers of a real object changed at random, or its end cut off: no other error, no hang."""
    whole = bytearray((GOLDEN / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(whole) - 8))
        size = data.draw(st.sampled_from([1, 2, 4, 8]))
        whole[at : at + size] = data.draw(st.binary(min_size=size, max_size=size))
    cut = data.draw(st.integers(0, len(whole))) if data.draw(st.booleans()) else len(whole)
    try:
        found = read(bytes(whole[:cut]))
    except (WireError, UsageError):
        return
    encode(found.linked(range(len(found.maps))))
