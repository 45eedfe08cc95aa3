"""Flips and shares: the kernel first, all or nothing, and again when it was refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.supervisor.run.doubles import Run

from segue.supervisor.lifecycle.instance import Renewal
from segue.supervisor.lifecycle.stages import Phase


def test_newcomers_get_all_new_connections_at_once(run: Run) -> None:
    """One flip: the newcomers serve, the older workers drain."""
    run.orders.restart(Renewal(keep=10.0))
    run.round()
    run.ready()
    assert run.shares() == {3: 1.0, 4: 1.0}
    assert run.stages == {1: "DRAINING", 2: "DRAINING", 3: "SERVING", 4: "SERVING"}
    assert (run.instance.phase, run.instance.working) == (Phase.SERVING, 2)


@pytest.mark.parametrize("percent", [100.0, 10.0])
def test_a_flip_that_is_refused_changes_nothing(run: Run, percent: float) -> None:
    """Phase, stages, generations and shares are as before, and the next round tries again."""
    run.orders.restart(Renewal(percent=percent))
    run.round()
    run.refuse("share")
    run.ready()
    assert run.shares() == {1: 1.0, 2: 1.0}
    assert (run.instance.phase, run.instance.working) == (Phase.RENEWING, 1)
    assert (run.instance.newcomer, run.instance.shared) == (2, ((1, 1.0), (2, 1.0)))
    assert run.stages == {1: "SERVING", 2: "SERVING", 3: "STANDBY", 4: "STANDBY"}
    run.give()
    run.round()
    assert run.instance.phase is (Phase.SERVING if percent == 100 else Phase.CANARY)
    assert run.shares().keys() >= {3, 4}


def test_a_refused_flip_is_said_once(run: Run) -> None:
    """A hundred rounds in which the kernel refuses are one line of the log."""
    run.orders.restart()
    run.round()
    run.refuse("share")
    run.ready()
    for _ in range(10):
        run.round(0.01)
    assert len([one for one in run.log.lines if "share failed" in one]) == 1


def test_shares_that_are_refused_are_told_later(run: Run) -> None:
    """Weights that the kernel did not take are due until it does."""
    run.refuse("share")
    run.ask("weights", weights={"1": 0.5})
    assert run.instance.shared == ((1, 1.0), (2, 1.0))
    run.give()
    run.round()
    assert run.shares() == {1: 0.5, 2: 1.0}


def test_addresses_that_were_told_in_part_are_all_told_anew(begin: Callable[..., Run]) -> None:
    """When the second address refuses a flip that is given up, the first gets its shares back.

    Without that every connection to the first address would go to workers that are stopped.
    """
    run = begin(2)
    run.runner.open()
    run.serve()
    run.orders.restart()
    run.round()
    first, second = run.simulated.steerings
    second.refuses_shares = True
    run.ready()
    assert first.weights.keys() != second.weights.keys()
    run.end(4, 1)
    second.refuses_shares = False
    run.round()
    run.end(3)
    for bind in (0, 1):
        assert run.shares(bind) == {1: 1.0, 2: 1.0}


def test_a_ready_worker_that_dies_before_the_flip_ends_it(run: Run) -> None:
    """The older workers keep their shares, and whoever asked would hear 3."""
    client = run.ask("restart")
    run.ready(3)
    run.end(3, 1)
    assert run.shares() == {1: 1.0, 2: 1.0}
    assert client.end is not None
    assert client.end["exit"] == 3


def test_moving_at_once_asks_for_each_listener(run: Run) -> None:
    """With --now a worker's queue is cycled when it loses its share, without being stopped."""
    run.wait(1, 3)
    run.orders.restart(Renewal(at_once=True, keep=10.0))
    run.round()
    run.ready()
    assert run.simulated.refusals.asked.count("rejoin") == 2
    assert run.stages[1] == "DRAINING"
