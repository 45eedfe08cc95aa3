"""Sequence numbers, above all where they wrap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from segue.wire.seq import Seq, add, before, distance, later

NUMBERS = st.integers(0, (1 << 32) - 1).map(Seq)


@given(NUMBERS, st.integers(-(1 << 31) + 1, (1 << 31) - 1))
def test_distance_undoes_add(start: Seq, by: int) -> None:
    """Across the wrap as well, and before() says the same as the sign."""
    end = add(start, by)
    assert 0 <= end < 1 << 32
    assert distance(start, end) == by
    assert before(end, start) == (by < 0)
    assert later(start, end) == (end if by > 0 else start)
