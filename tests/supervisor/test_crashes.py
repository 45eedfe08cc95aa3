"""Deaths: which of them count, how starts are put off, and what is said when nobody serves."""

from __future__ import annotations

import pytest

from segue.supervisor.lifecycle.crashes import backoff, is_crash, noted
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.outage import Outage
from segue.supervisor.lifecycle.stages import Phase, Stage


@pytest.mark.parametrize(
    ("before", "served", "code", "expected"),
    [
        (Stage.STARTING, 0.0, 0, True),
        (Stage.STANDBY, 0.0, 0, True),
        (Stage.SERVING, 0.1, 0, False),  # a quota
        (Stage.SERVING, 0.1, 1, True),
        (Stage.SERVING, 0.1, -9, True),
        (Stage.SERVING, 0.1, None, True),
        (Stage.SERVING, 9.0, 1, False),
    ],
)
def test_a_worker_that_used_up_its_quota_is_no_crash(
    before: Stage, served: float, code: int | None, *, expected: bool
) -> None:
    """Served and exited with 0, however soon; nor is one that served for a while."""
    assert is_crash(before, served, code) is expected


def test_a_quota_may_be_used_up_before_the_worker_is_known_to_be_ready() -> None:
    """What counts is that it had accepted; with another exit code it is a crash all the same."""
    assert not is_crash(Stage.STARTING, 0.0, 0, accepted=True)
    assert is_crash(Stage.STARTING, 0.0, 1, accepted=True)


def test_the_backoff_doubles_to_ten_seconds() -> None:
    """The first crash costs nothing; then 0.1 s doubling, at most 10 s; old ones are forgotten."""
    waits = [round(backoff([100.0] * count, 60.0, 100.0) - 100.0, 3) for count in range(1, 12)]
    assert waits == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10]
    assert backoff([1.0] * 9 + [100.0], 60.0, 100.0) == 100.0


@pytest.mark.parametrize("window", [1.0, 60.0, 1000.0])
def test_starts_that_fail_for_ever_stay_ten_seconds_apart(window: float) -> None:
    """Whatever the window, the pace does not quicken, and what is remembered does not grow."""
    now, crashes = 0.0, list[float]()
    for _ in range(500):
        crashes = noted(crashes, now, window)
        after = backoff(crashes, window, now)
        waited, now = after - now, after + 0.2
    assert waited == pytest.approx(10)
    assert len(crashes) <= max(9, window / 10)


def nobody() -> Instance:
    return Instance(size=1, phase=Phase.SERVING)


def test_an_outage_is_said_once_a_minute_with_its_cause() -> None:
    """First after ten seconds, and that it is over at its end."""
    outage, said = Outage(), list[tuple[float, str]]()
    for second in range(200):
        if second % 10 == 5:
            outage.death("worker 1.2 exited with 1")
        if sentence := outage.look(nobody(), float(second)):
            said.append((second, sentence))
    assert [second for second, _ in said] == [10, 70, 130, 190]
    assert said[1][1].startswith(
        "no worker has served for 70 s; 7 start(s) have failed (the last: worker 1.2 exited with 1)"
    )
    serving = nobody()
    serving.workers[1] = Worker(1, 1, 100, 0.0, stage=Stage.SERVING)
    assert outage.look(serving, 200.0) == "workers serve again, after 200 s without any"
    assert outage.look(serving, 201.0) == outage.sentence(201.0) == ""


def test_workers_that_cannot_be_started_beside_others_are_counted() -> None:
    """With the cause, until all of them serve; nothing is missing while nothing has failed."""
    outage, instance = Outage(), Instance(size=3, phase=Phase.SERVING)
    instance.workers[1] = Worker(1, 1, 100, 0.0, stage=Stage.SERVING)
    assert outage.look(instance, 0.0) == outage.sentence(0.0) == ""
    outage.death("worker 1.2 was killed by SIGKILL")
    assert outage.look(instance, 1.0) == ""
    why = "worker(s) are missing; the last start failed: worker 1.2 was killed by SIGKILL"
    assert outage.sentence(1.0) == f"2 of 3 {why}"
    instance.workers[1].stage = Stage.GONE
    assert outage.look(instance, 2.0) == ""
    assert outage.sentence(3.0).startswith("no worker has served for 1 s; 1 start(s) have failed")
    for number in (3, 4, 5):
        instance.workers[number] = Worker(number, 1, 100, 0.0, stage=Stage.SERVING)
        assert outage.look(instance, float(number)) == ""
        assert outage.sentence(5.0) == {3: f"2 of 3 {why}", 4: f"1 of 3 {why}", 5: ""}[number]


def test_a_replacement_in_time_is_no_outage() -> None:
    """A worker that dies and is back within ten seconds; so is the end of the instance."""
    outage, serving = Outage(), nobody()
    serving.workers[1] = Worker(1, 1, 100, 0.0, stage=Stage.SERVING)
    stopping = Instance(size=1, phase=Phase.STOPPING)
    assert [outage.look(one, now) for one, now in ((nobody(), 0.0), (serving, 9.0))] == ["", ""]
    assert [outage.look(one, now) for one, now in ((nobody(), 10.0), (stopping, 50.0))] == ["", ""]
