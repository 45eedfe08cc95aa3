"""The share table: exact to an entry, and lazy in what it changes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import UsageError
from segue.shares import SIZE, by_generation, fill, is_least_change, newest_first, quotas

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
    assert changed(before, after) == sum((have - want).values())


@given(WEIGHTS, WEIGHTS, WEIGHTS)
def test_a_table_is_a_least_change_when_no_fill_would_keep_more(
    first: dict[int, float], second: dict[int, float], third: dict[int, float]
) -> None:
    """Every fill is one; one that was made for another table is when it keeps as many entries."""
    before, other = fill(first), fill(second)
    after = fill(third, before)
    assert is_least_change(before, after)
    made_for_another = fill(third, other)
    as_good = changed(before, made_for_another) == changed(before, after)
    assert is_least_change(before, made_for_another) == as_good


def test_a_slot_without_weight_is_not_in_the_table() -> None:
    """A listener in the group with no share gets nothing."""
    assert set(fill({1: 0, 2: 1})) == {2}


@pytest.mark.parametrize("weights", [{}, {1: 0.0}, {1: -1.0, 2: 2.0}])
def test_senseless_weights_are_refused(weights: dict[int, float]) -> None:
    """No share at all, or a negative one, is the caller's mistake."""
    with pytest.raises(UsageError):
        fill(weights)


@given(st.lists(st.integers(1, 8), min_size=1, max_size=5), st.integers(0, 12))
def test_nobody_has_more_than_a_seat(sizes: list[int], strength: int) -> None:
    """No listener gets more than one, all are taken that can be, and newer ones come first."""
    generations = numbered(sizes)
    weights = newest_first(generations, strength)
    assert max(weights.values()) <= 1
    assert sum(weights.values()) == pytest.approx(min(sum(sizes), max(1, strength)))
    newer = [weights.get(slots[0], 0.0) for slots in generations]
    assert newer == sorted(newer)


@pytest.mark.parametrize(
    ("sizes", "strength", "parts"),
    [
        ([2, 2], 2, [0, 100]),  # as strong as the one before it
        ([4, 1], 4, [75, 25]),  # one of four was started again
        ([2, 1, 1], 4, [50, 25, 25]),  # and then another
        ([4, 2], 4, [50, 50]),  # half as strong
        ([2, 4], 2, [0, 100]),
        ([2, 2], 4, [50, 50]),  # both were there when we came
        ([1], 0, [100]),
    ],
)
def test_the_newest_generation_comes_first_as_far_as_it_is_strong_enough(
    sizes: list[int], strength: int, parts: list[float]
) -> None:
    """Each generation's part of new connections, oldest first."""
    generations = numbered(sizes)
    assert of_generations(generations, by_generation(generations, strength)) == parts


def test_a_canary_gets_its_percent_whatever_its_strength() -> None:
    """To an entry of the table; who is older shares the rest, the newest of them first."""
    generations = numbered([2, 2, 2])
    weights = by_generation(generations, 2, 10)
    assert of_generations(generations, weights) == [0, 90, 10]
    table = Counter(fill(weights))
    assert table[4] + table[5] in {409, 410}
    assert of_generations(generations, by_generation(generations, 2, 100)) == [0, 0, 100]
    assert by_generation([[7]], 2, 10) == {7: 1.0}


def test_a_factor_is_among_siblings() -> None:
    """Half as much as its sibling: of a canary's part, and of everything."""
    assert by_generation([[0, 1]], 2, None, {1: 0.5}) == {0: 1.0, 1: 0.5}
    weights = by_generation([[0, 1], [2, 3]], 2, 30, {3: 0.5, 1: 0.0})
    assert weights == pytest.approx({0: 70, 1: 0, 2: 20, 3: 10})


def test_factors_that_leave_nobody_are_passed_over() -> None:
    """Better the wrong shares than none: whoever had the others may be gone."""
    assert by_generation([[0, 1]], 2, None, {0: 0, 1: 0}) == {0: 1.0, 1: 1.0}
    weights = by_generation([[0], [2]], 1, 30, {2: 0.0})
    assert weights == {0: 70.0, 2: 30.0}


def test_a_stalled_slot_leaves_its_part_to_its_generation_first() -> None:
    """Then to the others; where nobody is awake, or only a canary of 0 %, stalls are ignored."""
    generations = [[0, 1], [2, 3]]
    assert by_generation(generations, 2, 20, {}, {2}) == {0: 40, 1: 40, 2: 0, 3: 20}
    assert by_generation(generations, 2, 20, {}, {2, 3}) == {0: 40, 1: 40, 2: 0, 3: 0}
    everyone = by_generation(generations, 2, 20, {1: 3.0})
    assert by_generation(generations, 2, 20, {1: 3.0}, {0, 1, 2, 3}) == everyone
    assert by_generation([[0], [2]], 1, 0, {}, {0}) == {0: 100, 2: 0}


def test_a_canary_of_nothing_is_not_the_same_as_none() -> None:
    """0 % is a part: the newest generation waits until it is shifted."""
    assert by_generation([[0], [2]], 1, 0) == {0: 100.0, 2: 0.0}
    assert by_generation([[0], [2]], 1, None) == {2: 1.0}


def changed(before: list[int], after: list[int]) -> int:
    """How many entries are another's."""
    return sum(1 for old, new in zip(before, after, strict=True) if old != new)


def numbered(sizes: list[int]) -> list[list[int]]:
    """Generations of these sizes, their slots counted through."""
    slots = iter(range(sum(sizes)))
    return [[next(slots) for _ in range(size)] for size in sizes]


def of_generations(generations: list[list[int]], weights: dict[int, float]) -> list[float]:
    """What percentage each generation has."""
    total = sum(weights.values())
    return [
        round(100 * sum(weights.get(slot, 0.0) for slot in slots) / total, 6)
        for slots in generations
    ]
