"""The share table: exact to an entry, and lazy in what it changes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import UsageError
from segue.shares import SIZE, canary, fill, quotas

WEIGHTS = st.dictionaries(
    st.integers(0, 255), st.floats(0.01, 100, allow_nan=False), min_size=1, max_size=40
)


@given(WEIGHTS)
def test_quotas_are_within_one_entry_of_exact(weights: dict[int, float]) -> None:
    """Largest remainder: every slot gets its exact share rounded up or down, and all is dealt."""
    given_out = quotas(weights)
    total = sum(weights.values())
    assert sum(given_out.values()) == SIZE
    for slot, weight in weights.items():
        assert abs(given_out.get(slot, 0) - weight * SIZE / total) < 1


@given(WEIGHTS, WEIGHTS)
def test_a_refill_changes_only_what_must_change(
    first: dict[int, float], second: dict[int, float]
) -> None:
    """The entries that change are exactly the sum of what slots lose."""
    before = fill(first)
    after = fill(second, before)
    have, want = Counter(before), Counter(after)
    assert want == Counter(quotas(second))
    changed = sum(1 for old, new in zip(before, after, strict=True) if old != new)
    assert changed == sum((have - want).values())


def test_a_slot_without_weight_is_not_in_the_table() -> None:
    """A listener in the group with no share gets nothing."""
    assert set(fill({1: 0, 2: 1})) == {2}


@pytest.mark.parametrize("weights", [{}, {1: 0.0}, {1: -1.0, 2: 2.0}])
def test_senseless_weights_are_refused(weights: dict[int, float]) -> None:
    """No share at all, or a negative one, is the caller's mistake."""
    with pytest.raises(UsageError):
        fill(weights)


def test_a_canary_gets_its_percent() -> None:
    """Ten percent between two new listeners is 205 entries each, to an entry."""
    table = Counter(fill(canary([0, 1], [2, 3], 10)))
    assert table[2] + table[3] in {409, 410}


@pytest.mark.parametrize("percent", [0, -1, 101, float("nan")])
def test_a_canary_outside_its_range_is_refused(percent: float) -> None:
    """Zero is no canary and more than everything does not exist."""
    with pytest.raises(UsageError):
        canary([0], [1], percent)
