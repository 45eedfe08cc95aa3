"""Restarts in steps, performed: what is said, who is asked, and what orders in the middle do."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from tests.supervisor.run.doubles import Run, Simulated

from segue.errors import UsageError
from segue.supervisor.lifecycle.instance import Renewal
from segue.supervisor.lifecycle.stages import Phase
from segue.supervisor.run.upgrade import gather


def first_step(run: Run, **more: Any) -> None:
    """Worker 3 has taken the place of worker 2, which has ended; worker 4 starts."""
    run.orders.restart(Renewal(step=1, **more))
    run.round()
    run.ready()
    run.round(0.1)
    run.end(2)


def test_a_restart_in_steps_says_where_it_is(run: Run) -> None:
    """Each step when it starts and when its newcomers have taken over, and never twice."""
    client = run.ask("restart", step=1)
    run.ready()
    run.round(0.1)
    run.end(2)
    assert run.stages == {1: "SERVING", 3: "SERVING", 4: "STARTING"}
    assert run.shares() == {1: 1.0, 3: 1.0}
    run.ready()
    run.round(0.1)
    run.end(1)
    assert [one for one in client.said if one.startswith("step")] == [
        "step 1 of 2: 0 of 2 worker(s) are of generation 2; new ones start",
        "step 1 of 2: 1 of 2 worker(s) are of generation 2; old ones finish",
        "step 2 of 2: 1 of 2 worker(s) are of generation 2; new ones start",
    ]
    assert client.end is not None
    assert client.end["exit"] == 0
    assert run.instance.renewal == Renewal()


def test_status_shows_the_step(run: Run) -> None:
    """And who serves after a failure, for as long as both generations do."""
    first_step(run)
    shown = "step 2 of 2: 1 of 2 worker(s) are of generation 2; new ones start"
    assert run.ask("status").end["status"]["progress"] == shown  # type: ignore[index]
    run.end(4, 7)
    shown = (
        "1 worker(s) of generation 1 and 1 worker(s) of generation 2 serve until generation 1 is"
        " complete again"
    )
    assert run.ask("status").end["status"]["progress"] == shown  # type: ignore[index]
    run.ready()
    assert run.ask("status").end["status"]["progress"] == ""  # type: ignore[index]


def test_a_failure_is_answered_with_who_serves(run: Run) -> None:
    """The old generation is completed first; then the newcomers drain, uncut."""
    run.orders.restart(Renewal(step=1, cut=True))
    run.round()
    client = run.ask("restart", replace=True, cut=True)
    run.end(3)
    run.ready()
    run.round(0.1)
    run.end(2)
    run.end(5, 7)
    assert client.end is not None
    assert client.end["exit"] == 3
    assert client.end["error"].endswith("serve until generation 1 is complete again")
    assert run.instance.renewal == Renewal(step=1)
    assert run.stages == {1: "SERVING", 4: "SERVING", 6: "STARTING"}
    run.wait(4, 1)
    run.ready()
    assert run.shares() == {1: 1.0, 6: 1.0}
    assert run.stages[4] == "DRAINING"
    assert "generation 1 is complete again" in run.log


def test_a_rollback_in_the_middle_goes_back_in_steps(run: Run) -> None:
    """The newcomer that starts is stopped first, for the room."""
    first_step(run)
    client = run.ask("rollback")
    left = "1 worker(s) of generation 1 and 1 worker(s) of generation 2 serve"
    assert client.end == {
        "exit": 0, "generation": 1, "left": f"{left} until generation 1 is complete again",
    }  # fmt: skip
    assert run.stages == {1: "SERVING", 3: "SERVING", 4: "STOPPING"}
    run.end(4)
    assert run.stages == {1: "SERVING", 3: "SERVING", 5: "STARTING"}
    assert f"rolled back: {left}" in run.log


def test_a_rollback_after_the_last_step_goes_back_in_steps_too(run: Run) -> None:
    """While an old worker of it has not ended."""
    first_step(run)
    run.wait(1, 1)
    run.ready()
    assert run.instance.working == 2
    run.wait(4, 1)
    run.ask("rollback")
    assert run.shares() == {1: 1.0, 3: 1.0}
    assert run.stages == {1: "SERVING", 3: "SERVING", 4: "DRAINING"}


def test_a_restart_by_signal_in_the_middle_has_the_same_steps(begin: Callable[..., Run]) -> None:
    """Whatever the settings say: there is no more room than before.  It waits for its turn."""
    run = begin(keep=60.0)
    run.runner.open()
    run.serve()
    first_step(run)
    run.orders.signals[signal.SIGHUP](signal.SIGHUP)
    assert run.instance.queued == Renewal(step=1)
    run.ready()
    assert run.instance.working == 2
    assert run.instance.newcomer == 3
    run.end(1)
    assert run.stages == {3: "SERVING", 4: "SERVING", 5: "STARTING"}


def test_a_restart_in_its_place_replaces_both_generations(run: Run) -> None:
    """Newcomers that serve keep their places until others take them."""
    first_step(run)
    run.ask("restart", replace=True)
    assert run.stages == {1: "SERVING", 3: "SERVING", 4: "STOPPING"}
    run.end(4)
    assert run.stages == {1: "SERVING", 3: "SERVING", 5: "STARTING"}
    assert run.worker(5).generation == 3


def test_the_number_of_workers_may_change_in_a_restart_in_steps(run: Run) -> None:
    """There are more steps then."""
    first_step(run)
    assert run.ask("scale", workers=3).end == {"exit": 0, "workers": 3}
    assert run.ask("status").end["status"]["progress"].startswith("step 2 of 3")  # type: ignore[index]


def test_the_setting_is_the_default_of_every_restart(begin: Callable[..., Run]) -> None:
    """A request may say otherwise."""
    run = begin(restart_step=1)
    run.runner.open()
    run.serve()
    run.ask("restart")
    assert run.instance.renewal.step == 1
    run.ask("rollback")
    run.end(3)
    run.ask("restart", step=0)
    assert run.instance.renewal.step == 0


@pytest.mark.parametrize(
    ("wishes", "words"),
    [(Renewal(step=1, percent=10.0), "--canary"), (Renewal(step=1, keep=1.0), "--keep 0")],
)
def test_what_needs_both_generations_is_refused(run: Run, wishes: Renewal, words: str) -> None:
    """With what to leave out, and nothing is changed."""
    with pytest.raises(UsageError, match=words):
        run.orders.restart(wishes)
    assert (run.instance.phase, run.instance.last_generation) == (Phase.SERVING, 1)


def test_a_newcomer_with_a_quota_is_followed_by_another(run: Run) -> None:
    """It served and exited with 0, which fails no restart."""
    first_step(run)
    run.end(3)
    assert run.instance.phase is Phase.RENEWING
    run.ready()
    assert run.stages == {1: "SERVING", 4: "SERVING", 5: "STARTING"}


def test_a_newcomer_that_shuts_its_listener_gives_the_restart_up(run: Run) -> None:
    """Although it serves already."""
    first_step(run)
    worker = run.worker(3)
    run.service.fronts[0].sockets[worker.listeners[0].slot].shutdown(2)
    run.round(1.1)
    run.round(0.1)
    assert run.instance.phase is Phase.SERVING
    assert "has shut down its listener" in run.log


def test_a_queue_of_the_old_generation_is_not_kept_for_a_successor(
    simulated: Simulated, begin: Callable[..., Run]
) -> None:
    """Where nothing migrates: a newcomer has the dead one's place, so a finisher serves it."""
    simulated.migrates = False
    run = begin(workers=2)
    run.runner.open()
    run.serve()
    run.orders.restart(Renewal(step=1))
    run.round()
    run.wait(1, 3)
    run.end(1, 1)
    run.ready()
    assert [one.generation for one in run.instance.living if one.finisher] == [1]
    assert run.simulated.lost == 0


def test_new_code_is_handed_the_step(run: Run) -> None:
    """It is a part of the record."""
    first_step(run)
    handed = gather(run.service, run.settings, run.service.source)
    assert handed.record.instance.renewal.step == 1
