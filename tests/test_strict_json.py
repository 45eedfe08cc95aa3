"""JSON that somebody else may have written: as Python reads it, without what no JSON has."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.strict_json import loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def finite(value: Any) -> bool:
    """Every number in it is."""
    if isinstance(value, dict | list):
        return all(map(finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


@given(VALUES)
def test_what_is_finite_is_read_and_nothing_else(value: Any) -> None:
    """As text and as bytes."""
    text = json.dumps(value)
    if finite(value):
        assert loads(text) == loads(text.encode()) == value
    else:
        with pytest.raises(ValueError, match="is no number that JSON can have"):
            loads(text)


@pytest.mark.parametrize(
    "text",
    ["NaN", "-Infinity", "1e999", "-1E+999", "9" * 400 + ".0", '{"a": [1e400]}', "", "[", b"\xff",
     b'"\xed\xa0\x80"', "9" * 5000, "[" * 99_999],
    ids=lambda text: str(text)[:12],
)  # fmt: skip
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    """With one class of error, whatever it is."""
    with pytest.raises(ValueError, match=r"."):
        loads(text)
