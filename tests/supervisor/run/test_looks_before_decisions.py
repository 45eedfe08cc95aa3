"""What is decided at a limit goes by what is there then, however old the last look is."""

from __future__ import annotations

from tests.supervisor.run.doubles import Run

from segue.supervisor.lifecycle.instance import Renewal


def test_at_the_end_of_keep_a_worker_is_looked_at_again(run: Run) -> None:
    """It was quiet at the last look, and a client waits at its listener now: it is not stopped."""
    run.orders.restart(Renewal(keep=10.0))
    run.round()
    run.ready()
    run.round(1.0)
    assert run.service.survey.loads[1].quiet
    run.wait(1, 2)
    run.settle(10.0)
    assert run.stages == {1: "DRAINING", 2: "STOPPING", 3: "SERVING", 4: "SERVING"}


def test_a_look_that_is_refused_keeps_no_worker(run: Run) -> None:
    """Then what is known decides."""
    run.orders.restart(Renewal(keep=10.0))
    run.round()
    run.ready()
    run.round(1.0)
    run.refuse("snapshot")
    run.settle(10.0)
    assert run.stages == {1: "STOPPING", 2: "STOPPING", 3: "SERVING", 4: "SERVING"}
    assert "looking at connections" in run.log
