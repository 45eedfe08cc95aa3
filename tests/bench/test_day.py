"""What the day makes of the load's attempts: pure."""

from __future__ import annotations

from bench.cases.day import Seen, counted

from segue.probe.fates import Fate
from segue.probe.result import Event, Result

ATTEMPTS = Result(
    "x", "y", 0.0, 100.0, 10.0, {},
    events=(Event(1.5, 0.0, Fate.OK), Event(1.6, 0.0, Fate.REFUSED), Event(1.7, 0.0, Fate.EOF)),
)  # fmt: skip


def test_who_is_refused_is_lost_unless_the_instance_is_over() -> None:
    """And a slow request that got no answer is lost in any case."""
    lost = counted(ATTEMPTS, Seen("a deploy", 101.0, 102.0))
    assert (lost.measures["lost"], lost.measures["refused"]) == (2, 0)
    assert lost.kinds == {"refused": 1, "eof": 1}
    over = counted(ATTEMPTS, Seen("a stop", 101.0, 102.0, unanswered=3, over=True))
    assert (over.measures["lost"], over.measures["refused"]) == (4, 1)
    assert over.kinds == {"eof": 1}


def test_a_cause_counts_when_the_log_says_it() -> None:
    """Each of those that are wanted."""
    seen = Seen("x", 101.0, 102.0, said="worker 1.2 is gone", wanted=(r"worker 1\.\d", "why"))
    assert seen.missing == ["why"]
    assert counted(ATTEMPTS, seen).measures["causes"] == 1
