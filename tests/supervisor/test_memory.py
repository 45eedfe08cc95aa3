"""Whether a death was one for want of memory, by counts alone."""

from __future__ import annotations

from segue.supervisor.workers.memory import Kills


class Counted:
    """A file that counts, in which every worker is."""

    def __init__(self) -> None:
        self.number = 1
        self.kills = Kills(lambda _: "/events", lambda _: self.number)
        for worker in (1, 2, 3):
            self.kills.follow(worker, 100 + worker)


def test_a_counted_kill_explains_one_death() -> None:
    """Of two that die at once each has its own; a third one has another cause."""
    counted = Counted()
    counted.number = 3
    assert [counted.kills.claim(worker) for worker in (1, 2, 3)] == [
        ", probably for want of memory (oom_kill 1 -> 2)",
        ", probably for want of memory (oom_kill 2 -> 3)",
        "",
    ]


def test_a_kill_of_long_ago_explains_nothing() -> None:
    """One that a look has seen may still be ending; one that two have seen was another process."""
    counted = Counted()
    counted.number = 2
    counted.kills.look()
    assert "1 -> 2" in counted.kills.claim(1)
    counted.number = 3
    counted.kills.look()
    counted.kills.look()
    assert counted.kills.claim(2) == ""


def test_where_nothing_is_counted_nothing_is_said() -> None:
    """No cgroup limits its memory; or the worker is not known any more."""
    kills = Kills(lambda _: "", lambda _: 7)
    kills.follow(1, 101)
    assert kills.claim(1) == ""
    counted = Counted()
    counted.kills.forget(1)
    counted.number = 2
    assert counted.kills.claim(1) == ""
