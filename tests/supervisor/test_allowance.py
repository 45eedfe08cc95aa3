"""How much each may take: without a clock."""

from __future__ import annotations

from segue.supervisor.allowance import Allowance


def test_an_allowance_is_for_a_burst_and_then_a_rate() -> None:
    """What is not used comes back with time, up to the burst."""
    allowance = Allowance.full(10.0, 100.0, 0.0)
    assert allowance.spend(99, 0.0)
    assert not allowance.spend(1, 0.0)
    assert allowance.spend(9, 1.0)
    assert not allowance.spend(2, 1.0)
    assert allowance.spend(99, 1000.0)
    assert not allowance.spend(2, 1000.0)


def test_an_allowance_knows_when_something_is_left_again() -> None:
    """At once if it is not used up; else when the rate has made up for what was used too much."""
    allowance = Allowance.full(10.0, 100.0, 0.0)
    allowance.spend(50, 7.0)
    assert allowance.due == 7.0
    allowance.spend(150, 7.0)
    assert allowance.due == 17.0
