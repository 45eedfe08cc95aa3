"""Whose turn it is, and how much each may take: without a clock or a descriptor."""

from __future__ import annotations

from segue.supervisor.turns import Allowance, Turns


def test_who_had_a_turn_waits_behind_the_others() -> None:
    """Everybody stands in the queue once, however often he asks."""
    turns: Turns[str] = Turns()
    for one in "abcab":
        turns.add(one)
    seen = []
    for _ in range(6):
        one = turns.take()
        seen.append(one)
        turns.add(one)
    assert "".join(seen) == "abcabc"
    turns.discard("b")
    assert ("b" in turns, len(turns), turns.take(), turns.take()) == (False, 2, "a", "c")


def test_an_allowance_is_for_a_burst_and_then_a_rate() -> None:
    """What is not used comes back with time, up to the burst."""
    allowance = Allowance.full(10.0, 100.0, 0.0)
    assert allowance.spend(99, 0.0)
    assert not allowance.spend(1, 0.0)
    assert allowance.spend(9, 1.0)
    assert not allowance.spend(2, 1.0)
    assert allowance.spend(99, 1000.0)
    assert not allowance.spend(2, 1000.0)
