"""For how long newcomers leave the processors to others: pure, from their threads' accounts."""

from __future__ import annotations

from segue.linux.schedstat import Scheduled
from segue.supervisor.lifecycle.gentle import STOPPING, Gentle, enough

SECOND = 1_000_000_000


def account(*looks: tuple[float, float], threads: int = 1) -> Gentle:
    """After looks at each tenth of a second: what each thread ran and waited since the last."""
    found, ran, waited = Gentle.begin(0.0), 0.0, 0.0
    for number, (more, idle) in enumerate(looks, 1):
        ran, waited = ran + more, waited + idle
        one = Scheduled(int(ran * SECOND), int(waited * SECOND), runnable=True)
        found = found.look(number / 10, dict.fromkeys(range(threads), one))
    return found


def test_a_newcomer_that_gets_its_processor_starts_gently() -> None:
    """Up to the limit in time."""
    runs = account(*[(0.1, 0.0)] * 50)
    assert round(runs.ran, 3) == 5.0
    assert enough([runs], 2, 10.0) == ""
    assert enough([runs], 2, 5.0) == "they have been starting for 5 s"
    assert enough([runs], 2, 5.0, STOPPING) == "they have been stopping for 5 s"
    assert enough([], 2, 5.0) == ""
    assert enough([], 2, 0.0) == ""


def test_a_newcomer_that_starves_competes() -> None:
    """Less than a third of what it could use, and not before it has waited half a second."""
    starves = (0.01, 0.09)
    assert enough([account(*[starves] * 5)], 2, 10.0) == ""
    assert enough([account(*[starves] * 8)], 2, 10.0) == (
        "they ran for 0.1 s, and waited 0.6 s for a processor"
    )
    assert enough([account(*[(0.05, 0.05)] * 20)], 2, 10.0) == ""


def test_a_thread_that_never_gets_a_processor_waits() -> None:
    """Though the kernel counts its waiting only when it is over."""
    still = account((0.02, 0.0), *[(0.0, 0.0)] * 9)
    assert round(still.waited, 3) == 0.9
    assert enough([still], 2, 10.0)


def test_a_thread_that_sleeps_does_not_wait() -> None:
    """For a database, say."""
    asleep = Scheduled(SECOND // 10, 0, runnable=False)
    one = Gentle.begin(0.0)
    for number in range(1, 40):
        one = one.look(number / 10, {7: asleep})
    assert one.waited == 0
    assert enough([one], 2, 10.0) == ""


def test_newcomers_that_wait_for_one_another_do_not_starve() -> None:
    """Eight on two processors run a quarter of the time each: both processors are theirs."""
    eight = [account(*[(0.025, 0.075)] * 20)] * 8
    assert enough(eight, 2, 10.0) == ""
    assert enough([account(*[(0.005, 0.095)] * 20)] * 8, 2, 10.0)


def test_of_many_threads_the_one_that_waits_longest_counts() -> None:
    """All of them run, and their waiting is not added up."""
    many = account((0.1, 0.0), (0.02, 0.08), threads=4)
    assert round(many.ran, 3) == 0.48
    assert round(many.waited, 3) == 0.08
