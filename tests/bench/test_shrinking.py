"""Shrinking: what stays is needed, and what shows it is found wherever it stands."""

from __future__ import annotations

from bench.shrinking import shrunk
from hypothesis import given
from hypothesis import strategies as st


def test_only_what_shows_it_stays() -> None:
    """Two steps far from each other."""
    story = "\n".join(f"step {number}" for number in range(20))
    asked: list[str] = []

    def shows(part: str) -> bool:
        asked.append(part)
        return {"step 3", "step 17"} <= set(part.splitlines())

    assert shrunk(story, shows) == "step 3\nstep 17"
    assert len(asked) < 60


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=15), st.data())
def test_none_of_what_stays_can_be_left_out(steps: list[str], data: st.DataObject) -> None:
    """And it shows what the whole story showed."""
    needed = data.draw(st.sets(st.sampled_from(steps), min_size=1))

    def shows(part: str) -> bool:
        return needed <= set(part.splitlines())

    least = shrunk("\n".join(steps), shows).splitlines()
    assert sorted(least) == sorted(needed)
