"""The built-in program as a specification, and the bytes of its maps."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.bpf.disasm import disassemble
from segue.bpf.insn import decode, encode
from segue.errors import UsageError
from segue.policy import builtin
from segue.policy.builtin import NOBODY, SCAN, SLOTS, Maps, decode_counters, encode_table
from segue.policy.counts import Counts
from segue.shares import SIZE, fill

GOLDEN = Path(__file__).parent.parent / "golden" / "builtin_program.txt"
MAPS = Maps(sockets=3, tables=4, control=5, pins=6, counters=7)
TABLES = st.dictionaries(st.integers(0, SLOTS - 1), st.floats(1, 100), min_size=1, max_size=100)


def test_the_program_is_the_listing_that_was_reviewed() -> None:
    """A change to one instruction shows here, in a form that can be read."""
    assert disassemble(builtin.program(MAPS), MAPS.names()) + "\n" == GOLDEN.read_text()


def test_the_program_is_the_same_bytes_each_time() -> None:
    """It depends on the descriptors and on nothing else, and comes back from its bytes."""
    data = encode(builtin.program(MAPS))
    assert decode(data) == builtin.program(MAPS)
    assert hashlib.sha256(data).hexdigest() == (
        "41491035eb1f06c8da67ccf1663e8b3049a32029a76c57647b77fc2e879ea67c"
    )


@given(TABLES)
def test_a_table_comes_back(weights: dict[int, float]) -> None:
    """Its entries, from its bytes; whatever the shares."""
    entries = fill(weights)
    data = encode_table(entries)
    assert len(data) == builtin.TABLE_BYTES
    assert builtin.decode_table(data) == entries


@given(TABLES)
def test_the_scan_names_each_slot_once(weights: dict[int, float]) -> None:
    """The first 64 distinct slots, and how many they are; the rest of the scan is nobody."""
    entries = fill(weights)
    data = encode_table(entries)
    slots = sorted(set(entries))[:SCAN]
    live = int.from_bytes(data[2 * SIZE : 2 * SIZE + 4], "little")
    scan = [int.from_bytes(data[at : at + 2], "little") for at in range(2 * SIZE + 8, len(data), 2)]
    assert live == len(slots)
    assert scan == slots + [NOBODY] * (SCAN - live)


def test_an_empty_table_has_nothing_to_scan() -> None:
    """Nobody everywhere: the kernel's hash decides at once."""
    assert builtin.EMPTY_TABLE[2 * SIZE : 2 * SIZE + 4] == bytes(4)
    assert set(builtin.decode_table(builtin.EMPTY_TABLE)) == {NOBODY}


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([0] * 4095, "a table has 4096 entries, not 4095"),
        ([SLOTS] + [0] * 4095, "slots are 0 to 1023, not 0 to 1024"),
        ([-1] * 4096, "not -1 to -1"),
    ],
)
def test_a_table_the_program_could_not_use_is_refused(entries: list[int], why: str) -> None:
    """Too short, or with a slot that no sockarray has."""
    with pytest.raises(UsageError, match=why):
        encode_table(entries)


def test_counters_are_summed_over_cpus() -> None:
    """Six numbers of eight bytes a CPU, in the order of Counts."""
    first = b"".join(number.to_bytes(8, "little") for number in range(1, 7))
    second = b"".join(number.to_bytes(8, "little") for number in range(10, 70, 10))
    total = decode_counters([first, second])
    assert total == Counts(11, 22, 33, 44, 55, 66)
    assert total.migrated == 22 + 33 + 44
    assert total - Counts(new=11) == Counts(0, 22, 33, 44, 55, 66)
    assert not decode_counters([])


def test_the_control_word_names_a_copy() -> None:
    """0 or 1, whatever the upper half says."""
    assert builtin.encode_control(1).hex() == "0100000000000000"
    assert [builtin.decode_control(builtin.encode_control(copy)) for copy in (0, 1)] == [0, 1]
