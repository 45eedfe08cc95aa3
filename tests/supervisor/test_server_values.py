"""What a request may hold: numbers, weights and keys, and nothing that only looks like them."""

from __future__ import annotations

from typing import Any

import pytest

from segue.errors import UsageError
from segue.supervisor.control.server import MOST_WEIGHT, factors, number, short, whole_number


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), float("inf"), float("nan"), True, None, "1", [], {}]
)
def test_a_number_is_a_finite_number(value: Any) -> None:
    """An integer larger than any float is refused as infinity is."""
    with pytest.raises(UsageError, match="workers is a number, not "):
        number({"workers": value}, "workers")
    assert number({"workers": 3}, "workers") == 3.0


@pytest.mark.parametrize(
    "weights",
    [
        {"\u00b2": 1}, {"\u0661": 1}, {"9" * 5000: 1}, {"": 1}, {"-1": 1}, {"1 ": 1}, {}, [],
        {"1": -1}, {"1": 1e308}, {"1": MOST_WEIGHT + 1}, {"1": 10**400}, {"1": "1"},
    ],
)  # fmt: skip
def test_weights_that_make_no_sense_are_refused(weights: Any) -> None:
    """Workers are named in ASCII digits, and a weight is between 0 and a million."""
    with pytest.raises(UsageError):
        factors({"weights": weights})
    assert factors({"weights": {"1": 0, "02": MOST_WEIGHT}}) == {1: 0.0, 2: MOST_WEIGHT}


@pytest.mark.parametrize(
    "value", ["\u00b2", "9" * 5000, "", "-1", "0x1", 1.0, float("inf"), -1, 10**20, True, None, []]
)
def test_a_whole_number_is_written_in_digits(value: object) -> None:
    """Nothing that int() would make something of is one."""
    with pytest.raises(UsageError, match="a whole number is needed"):
        whole_number(value)
    assert whole_number("18446744073709551615") == whole_number(2**64 - 1)


def test_what_is_refused_is_told_in_short() -> None:
    """An error is a sentence, whatever was sent."""
    assert short("x") == "'x'"
    assert len(short("x" * 10_000)) < 100
