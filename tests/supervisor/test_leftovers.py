"""Which of our children are nobody's any more: a decision without a process."""

from __future__ import annotations

from segue.supervisor.workers.leftovers import Orphan, strays


def test_a_child_that_says_nothing_is_a_stray_once_its_maker_cannot_live() -> None:
    """It may be of any worker that was started before it, and of none that was started after."""
    daemon = {7: Orphan(50)}
    assert strays(daemon, {}, ()) == {7: 50}
    assert strays(daemon, {"w2": 60}, ()) == {7: 50}
    assert strays(daemon, {"w1": 40, "w2": 60}, ()) == {}
    assert strays(daemon, {"w1": 50}, ()) == {}, "within one tick it may be either"


def test_an_environment_that_names_a_worker_decides() -> None:
    """Of one that lives it is left alone; of one that does not it is a stray, whatever the time."""
    assert strays({7: Orphan(50, "w2")}, {"w2": 60}, ()) == {}
    assert strays({7: Orphan(50, "w1")}, {"w2": 40}, ()) == {7: 50}


def test_workers_and_who_was_there_before_us_are_no_strays() -> None:
    """By number and start time: who got the number of one since is another."""
    orphans = {7: Orphan(50), 8: Orphan(51)}
    assert strays(orphans, {}, {(7, 50), (8, 44)}) == {8: 51}
