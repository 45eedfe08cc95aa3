"""Object files read: what is in them, and that no bytes whatever do worse than a WireError."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bpf.objects import GOLDEN, HOOK, LOAD, OBJECTS, PASS, File, policy

from segue.bpf.elf import Elf, Kind, SymbolKind
from segue.errors import WireError


def patched(at: int, form: str, value: int) -> bytes:
    """A sound object with one number of it changed."""
    data = bytearray(policy())
    struct.pack_into(form, data, at, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not an ELF file"),
        (b"#!/bin/sh\n", "not an ELF file"),
        (policy()[:40], "has 40 bytes, not 64"),
        (patched(4, "<B", 1), "32-bit"),
        (patched(5, "<B", 2), "big-endian"),
        (patched(16, "<H", 2), "type 2, not of an object file"),
        (patched(18, "<H", 62), "machine 62, not for BPF"),
        (patched(58, "<H", 40), "row has 40 bytes"),
        (patched(60, "<H", 0), "0 sections"),
        (patched(60, "<H", 60000), "60000 sections"),
        (patched(40, "<Q", 1 << 63), "at byte 9223372036854775808"),
        (patched(62, "<H", 99), "names section 99"),
        (patched(62, "<H", 1), "not a table of strings"),
    ],
)  # fmt: skip
def test_a_header_that_is_not_ours_is_refused_by_its_fault(data: bytes, said: str) -> None:
    """What the file is instead, in words."""
    with pytest.raises(WireError, match=said):
        Elf(data)


def test_sections_symbols_and_relocations_are_found() -> None:
    """By name, with their bytes, and relocations with the symbol they wait for."""
    made = File()
    code = made.function(HOOK, PASS, "select")
    symbol = made.symbol("elsewhere", 0)
    made.relocate(code, 1, symbol)
    made.section(".bss", b"", kind=Kind.NOBITS, size=16)
    elf = Elf(made.build())
    section = elf.section(HOOK)
    assert section is not None
    assert section.executable
    assert len(elf.content(section)) == 16
    assert [(one.name, one.kind) for one in elf.symbols[1:]] == [
        ("select", SymbolKind.FUNC),
        ("elsewhere", SymbolKind.NOTYPE),
    ]
    (only,) = elf.relocations(section)
    assert (only.offset, only.kind, only.symbol.name) == (8, LOAD, "elsewhere")
    assert not only.symbol.defined
    bss = elf.section(".bss")
    assert bss is not None
    assert bss.size == 16
    with pytest.raises(WireError, match="no bytes in the file"):
        elf.content(bss)


def test_tables_that_contradict_themselves_are_refused() -> None:
    """A second table of symbols, half a row, a symbol in no section, a relocation past the end."""
    two = File()
    two.section("more", bytes(24), kind=Kind.SYMTAB)
    with pytest.raises(WireError, match="second table of symbols"):
        Elf(two.build())
    half = File()
    half.section(".rel", bytes(7), kind=Kind.REL)
    elf = Elf(half.build())
    with pytest.raises(WireError, match="not a whole number of relocations"):
        elf.relocations(elf.sections[0])
    nowhere = File()
    nowhere.symbol("lost", 400)
    with pytest.raises(WireError, match="in section 400, which is not there"):
        Elf(nowhere.build())
    past = File()
    code = past.function(HOOK, PASS)
    past.relocate(code, 2, 1)
    elf = Elf(past.build())
    with pytest.raises(WireError, match="relocates byte 16 of 16"):
        elf.relocations(elf.sections[code])
    unknown = File()
    code = unknown.function(HOOK, PASS)
    unknown.relocate(code, 0, 9)
    elf = Elf(unknown.build())
    with pytest.raises(WireError, match="refers to symbol 9, of 2"):
        elf.relocations(elf.sections[code])


def test_tables_that_lie_over_each_other_are_refused() -> None:
    """A file could else claim a million relocations for each of its sections."""
    made = File()
    for _ in range(3):
        made.relocate(made.section("code", bytes(16)), 0, 0)
    data = bytearray(made.build())
    # Every table of relocations becomes the file from its beginning to before its end.
    whole = (len(data) - 32) // 16 * 16
    table, count = struct.unpack_from("<Q", data, 40)[0], struct.unpack_from("<H", data, 60)[0]
    for row in range(table, table + 64 * count, 64):
        if struct.unpack_from("<I", data, row + 4)[0] == Kind.REL:
            struct.pack_into("<QQ", data, row + 24, 0, whole)
    elf = Elf(bytes(data))
    for section in elf.sections[1:3]:
        with pytest.raises(WireError, match=r"refers to symbol|relocates byte|lies over another"):
            elf.relocations(section)
    with pytest.raises(WireError, match="lies over another table"):
        elf.relocations(elf.sections[3])


def test_relocations_of_another_compiler_are_refused() -> None:
    """With an addend of their own they would be filled in wrongly."""
    made = File()
    made.section(".rela", bytes(24), kind=Kind.RELA)
    elf = Elf(made.build())
    with pytest.raises(WireError, match="RELA; compile with clang"):
        elf.relocations(elf.sections[0])


@given(st.binary(max_size=300))
def test_no_bytes_do_worse_than_a_wire_error(data: bytes) -> None:
    """Behind a header that is right, so that more than the header is read."""
    for whole in (data, policy()[:64] + data):
        try:
            elf = Elf(whole)
            for section in elf.sections:
                elf.relocations(section)
        except WireError:
            pass


@given(st.sampled_from(OBJECTS), st.data())
def test_no_damage_does_worse_than_a_wire_error(name: str, data: st.DataObject) -> None:
    """Numbers of a real object changed at random: it ends, with what is left or a WireError."""
    whole = bytearray((GOLDEN / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(whole) - 8))
        whole[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    try:
        elf = Elf(bytes(whole))
        for section in elf.sections:
            elf.relocations(section)
            if section.kind != Kind.NOBITS:
                elf.content(section)
    except WireError:
        pass
