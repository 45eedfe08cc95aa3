"""Which maps of an object are Segue's to fill, and what is put before its program."""

from __future__ import annotations

import pytest
from tests.bpf.objects import GOLDEN, HOOK, PASS, SOCKARRAY, File, policy

from segue.bpf import asm, linker
from segue.bpf.disasm import disassemble
from segue.bpf.insn import R0
from segue.errors import UsageError
from segue.policy.object import ObjectPolicy, match, program

TABLES = (2, 4, 8328, 2, 0)
CONTROL = (2, 4, 8, 1, 0)
PINS = (1, 4, 4, 64, 0)


def matched(**maps: tuple[int, ...]) -> ObjectPolicy:
    """The policy of an object with these maps beside its array."""
    return match(linker.read(policy(**maps)))


def test_the_one_array_is_segues_whatever_its_name() -> None:
    """Everything else is the object's own; names mean nothing without a table."""
    found = match(linker.read((GOLDEN / "by_cookie.bpf.o").read_bytes()))
    assert {name: found.maps[number].name for name, number in found.ours.items()} == {
        "sockets": "listeners"
    }
    assert not found.by_table
    assert matched(counters=(1, 1, 1, 1, 0), pins=(1, 1, 1, 1, 0)).ours == {"sockets": 0}


def test_maps_have_a_bound() -> None:
    """A file may ask for more memory than there is: all maps count, a ring buffer by its bytes."""
    half = 1 << 29
    assert matched(mine=(2, 4, 1 << 20, 500, 0), ring=(27, 0, 0, half, 0))
    with pytest.raises(UsageError, match=r"have room for \d+ bytes, above 1073741824: give them"):
        matched(mine=(2, 4, 1 << 20, 600, 0), ring=(27, 0, 0, half, 0))


def test_of_two_arrays_the_one_called_sockets_is_filled() -> None:
    """A listener can be in one only, so it must be told which."""
    assert matched(others=SOCKARRAY).ours == {"sockets": 0}
    made = File()
    made.function(HOOK, PASS)
    made.maps(a=SOCKARRAY, b=SOCKARRAY)
    with pytest.raises(UsageError, match=r"2 maps of the kind REUSEPORT_SOCKARRAY \(a, b\)"):
        match(linker.read(made.build()))


def test_without_an_array_it_is_no_policy() -> None:
    """It could select nobody."""
    made = File()
    made.function(HOOK, PASS)
    made.maps(mine=(1, 4, 4, 4, 0))
    with pytest.raises(UsageError, match="no map of the kind REUSEPORT_SOCKARRAY"):
        match(linker.read(made.build()))


def test_an_array_is_made_so_that_it_can_be_read_and_has_room() -> None:
    """Values of 4 bytes are made 8, few entries many; other keys, or no entry, are refused."""
    found = matched(sockets=(20, 4, 4, 64, 0))
    assert (found.maps[0].value_size, found.maps[0].entries) == (8, 1024)
    assert matched(sockets=(20, 4, 8, 5000, 0)).maps[0].entries == 5000
    for layout in ((20, 8, 8, 64, 0), (20, 4, 2, 64, 0), (20, 4, 8, 0, 0)):
        with pytest.raises(UsageError, match="its array sockets has keys of"):
            matched(sockets=layout)


def test_a_kind_of_map_that_segue_cannot_make_is_refused() -> None:
    """By its number, with those that it makes."""
    with pytest.raises(UsageError, match=r"its map inner is of kind 12 .* it makes HASH, ARRAY"):
        matched(inner=(12, 4, 4, 4, 0))


def test_with_a_table_the_maps_of_segues_names_are_segues() -> None:
    """As far as they are there."""
    found = matched(tables=TABLES, control=CONTROL, pins=PINS, mine=PINS)
    assert found.by_table
    assert found.ours == {"sockets": 0, "tables": 1, "control": 2, "pins": 3}


@pytest.mark.parametrize(
    ("maps", "said"),
    [
        ({"tables": TABLES}, "has the map 'tables' and not 'control'"),
        ({"control": CONTROL}, "has the map 'control' and not 'tables'"),
        (
            {"tables": (2, 4, 8192, 2, 0), "control": CONTROL},
            "'tables' is of kind ARRAY with 2 entries, keys of 4 and values of 8192",
        ),
        (
            {"tables": TABLES, "control": CONTROL, "pins": (9, 4, 4, 64, 0)},
            "'pins' is of kind LRU_HASH with 64 entries",
        ),
    ],
)
def test_a_table_that_is_not_segues_is_refused(maps: dict[str, tuple[int, ...]], said: str) -> None:
    """Half of what shares need, or another layout; with the way out."""
    with pytest.raises(UsageError, match=said):
        matched(**maps)


def test_the_number_of_listeners_is_written_where_it_fits() -> None:
    """A variable of four bytes of this name, or none."""
    live = match(linker.read((GOLDEN / "live.bpf.o").read_bytes())).live
    assert live is not None
    assert (live.name, live.size) == ("segue_live", 4)
    made = File()
    made.function(HOOK, PASS)
    made.maps(sockets=SOCKARRAY)
    data = made.section(".data", bytes(8), flags=2)
    made.symbol("segue_live", data, 0, 8, 1)
    with pytest.raises(UsageError, match="segue_live must have 4 bytes"):
        match(linker.read(made.build()))


def test_pins_come_before_a_program_that_has_none() -> None:
    """A SYN is looked up; a pinned one is selected from the array its value names; else R1 is
    the context again, as at entry.
    """
    listing = disassemble(
        program(matched(), [3], 4, 5), {3: "sockets", 4: "pins", 5: "waiting"}
    ).splitlines()
    maps = [line.split("= map ")[1] for line in listing if "= map " in line]
    assert maps == ["pins", "waiting", "sockets"]
    own = disassemble(list(PASS)).splitlines()
    assert listing[-3].endswith("r1 = r6")
    assert [line.split(")", 1)[1] for line in listing[-2:]] == [
        line.split(")", 1)[1] for line in own
    ]


def test_a_program_with_pins_of_its_own_is_loaded_as_it_is() -> None:
    """It looks at them itself."""
    found = matched(tables=TABLES, control=CONTROL, pins=PINS)
    assert program(found, [3, 4, 5, 6], 6, None) == [asm.mov_imm(R0, 1), asm.leave()]
