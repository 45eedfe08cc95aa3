"""Restarts that overtake one another: one is at work, and the latest of the others waits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.supervisor.run.doubles import Asking, Run

from segue.supervisor.lifecycle.instance import Instance, Renewal
from segue.supervisor.lifecycle.stages import Phase


def canary(run: Run) -> None:
    run.ask("restart", canary=10.0)
    run.ready()


def renewing(run: Run) -> None:
    run.ask("restart")


def code(client: Asking) -> int | None:
    """The exit code that a client has got; None while there is no answer."""
    found: int | None = client.end["exit"] if client.end else None
    return found


def error(client: Asking) -> str:
    return str(client.end["error"]) if client.end else ""


def test_a_restart_waits_until_the_first_generation_serves(begin: Callable[..., Run]) -> None:
    """Then it begins; there is nothing yet that it could give up."""
    run = begin()
    run.runner.open()
    run.round()
    assert code(run.ask("restart", replace=True)) == 2
    assert run.instance.queued is None
    client = run.ask("restart")
    assert client.said == ["this restart waits until generation 1 serves"]
    run.ready()
    assert run.stages == {1: "SERVING", 2: "SERVING", 3: "STARTING", 4: "STARTING"}
    run.ready()
    for worker in (1, 2):
        run.end(worker)
    assert code(client) == 0
    assert run.instance.working == 2


def test_whoever_waits_for_the_first_generation_hears_that_it_failed(
    begin: Callable[..., Run],
) -> None:
    """The instance gives up, and the restart with it."""
    run = begin()
    run.runner.open()
    run.round()
    client = run.ask("restart")
    run.end(1, 7)
    assert code(client) == 3
    assert "exited with 7" in error(client)
    assert run.instance.queued is None


def test_a_restart_waits_for_the_one_at_work(run: Run) -> None:
    """Its newcomers come to serve, and those of the next one are started after that."""
    first, second = run.ask("restart"), run.ask("restart")
    assert second.said == ["this restart waits until generation 2 serves or is given up"]
    assert run.stages == {1: "SERVING", 2: "SERVING", 3: "STARTING", 4: "STARTING"}
    status = run.ask("status").end
    assert status is not None
    assert status["status"]["queued"] == "until generation 2 serves or is given up"
    run.ready()
    assert (run.instance.working, run.instance.newcomer, run.instance.queued) == (2, 3, None)
    assert run.stages.keys() == {1, 2, 3, 4, 5, 6}
    for worker in (1, 2):
        run.end(worker)
    assert (code(first), code(second)) == (0, None)
    run.ready()
    for worker in (3, 4):
        run.end(worker)
    assert code(second) == 0
    assert run.instance.settled


def test_only_the_latest_restart_waits(run: Run) -> None:
    """Those before it are told at once, by an exit code of their own; its options count."""
    renewing(run)
    between = [run.ask("restart", keep=5.0), run.ask("restart", canary=20.0)]
    last = run.ask("restart", keep=7.0)
    assert [code(one) for one in between] == [4, 4]
    assert all(error(one).startswith("superseded") for one in between)
    assert code(last) is None
    assert run.instance.queued == Renewal(keep=7.0)
    run.ready()
    assert (run.instance.newcomer, run.instance.renewal) == (3, Renewal(keep=7.0))


def test_a_restart_that_nobody_waits_for_is_told_that_it_waits(run: Run) -> None:
    """With the number that its generation will have."""
    renewing(run)
    waits = "until generation 2 serves or is given up"
    client = run.ask("restart", wait=False)
    assert client.end == {"exit": 0, "generation": 3, "waits": waits}


def test_a_restart_that_waited_begins_when_the_one_at_work_has_failed(run: Run) -> None:
    """The first client hears of the failure, the second one of its own restart."""
    first, second = run.ask("restart"), run.ask("restart")
    run.end(3, 1)
    assert (code(first), code(second)) == (3, None)
    assert run.instance.newcomer == 3
    assert "generation 3 is starting" in second.said


def test_a_restart_waits_for_a_canary(run: Run) -> None:
    """Somebody decides about it: what is promoted serves before the next one is started."""
    canary(run)
    client = run.ask("restart")
    assert "until generation 2, a canary, is promoted" in client.said[0]
    assert run.shares().keys() == {1, 2, 3, 4}
    run.ask("promote")
    assert (run.instance.working, run.instance.newcomer) == (2, 3)


def test_whoever_waits_is_told_when_a_canary_is_next(run: Run) -> None:
    """The one at work comes to be a canary, which may take any time."""
    run.ask("restart", canary=10.0)
    client = run.ask("restart")
    run.ready()
    assert "a restart waits until generation 2, a canary, is promoted" in client.said[-1]


@pytest.mark.parametrize("arrive", [renewing, canary])
def test_a_rollback_gives_up_the_restart_that_waits(
    run: Run, arrive: Callable[[Run], None]
) -> None:
    """What serves is to stay: nothing begins by itself afterwards."""
    arrive(run)
    client = run.ask("restart")
    run.ask("rollback")
    assert code(client) == 1
    assert "it was rolled back" in error(client)
    run.round(0.1)
    assert (run.instance.phase, run.instance.working) == (Phase.SERVING, 1)
    assert run.instance.last_generation == 2


@pytest.mark.parametrize(("percent", "first_code"), [(100.0, 4), (10.0, 0)])
def test_a_restart_that_replaces_begins_at_once(run: Run, percent: float, first_code: int) -> None:
    """The newcomers at work, or the canary, are given up; so is the restart that waits."""
    first = run.ask("restart", canary=percent)
    if percent < 100:
        run.ready()
    second, third = run.ask("restart"), run.ask("restart", replace=True)
    assert [code(one) for one in (first, second, third)] == [first_code, 4, None]
    assert (run.instance.phase, run.instance.newcomer) == (Phase.RENEWING, 3)
    assert {run.stages[3], run.stages[4]} <= {"STOPPING", "DRAINING"}
    assert run.shares() == {1: 1.0, 2: 1.0}
    run.ready()
    assert run.instance.working == 3


def test_a_next_supervisor_knows_of_the_restart_that_waits(run: Run) -> None:
    """It is in the record as soon as it is asked for."""
    renewing(run)
    run.ask("restart", wait=False, canary=20.0)
    record = run.service.paths.read_record()
    assert record is not None
    assert Instance.from_json(record["instance"]).queued == Renewal(percent=20.0)


def test_a_stop_ends_the_restart_that_waits(run: Run) -> None:
    """Nothing is started any more, and its client is told."""
    renewing(run)
    client = run.ask("restart")
    run.orders.stop()
    run.round(0.1)
    assert code(client) == 1
    assert run.instance.queued is None


def test_a_rollback_after_a_failed_restart_says_what_serves(run: Run) -> None:
    """Nothing was stopped that could be gone back to."""
    renewing(run)
    run.end(3, 1)
    assert error(run.ask("rollback")) == (
        "there is nothing to go back to: generation 2 was given up, and generation 1 serves"
    )
