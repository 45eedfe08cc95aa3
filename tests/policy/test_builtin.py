"""The bytes of the maps that every program has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import UsageError
from segue.policy import builtin
from segue.policy.builtin import NOBODY, SCAN, SLOTS, decode_counters, encode_table
from segue.policy.counts import Counts
from segue.shares import SIZE, fill

TABLES = st.dictionaries(st.integers(0, SLOTS - 1), st.floats(1, 100), min_size=1, max_size=100)


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
        ([0] * 4095, "a table must have 4096 entries"),
        ([SLOTS] + [0] * 4095, "slots must be between 0 and 1023"),
        ([-1] * 4096, "got -1 to -1"),
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
