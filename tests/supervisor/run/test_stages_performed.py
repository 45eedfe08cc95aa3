"""Every row of the worker's table, reached by what really happens to a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from tests.supervisor.run.doubles import Run, Simulated

from segue.supervisor.lifecycle.instance import Renewal
from segue.supervisor.lifecycle.stages import WORKER, Stage, WorkerInput


class Row(NamedTuple):
    """How a worker gets into the row's stage, and what is the input then."""

    worker: int
    arrive: Callable[[Run], object]
    happen: Callable[[Run], object]


def restarted(run: Run) -> None:
    run.orders.restart(Renewal(keep=10.0))
    run.round()


def half_ready(run: Run) -> None:
    restarted(run)
    run.ready(3)


def drains(run: Run) -> None:
    restarted(run)
    run.ready()


def finishes(run: Run) -> None:
    """Worker 1 dies while it drains, with clients that nothing migrates: 5 is its finisher."""
    drains(run)
    run.wait(1, 2)
    run.end(1, 1)


def stopped(run: Run) -> None:
    run.orders.stop()
    run.round()
    run.round(0.1)  # handshakes may have been under way


def killed(run: Run) -> None:
    stopped(run)
    run.settle(11.0)


ROWS = {
    (Stage.STARTING, WorkerInput.READY): Row(3, restarted, lambda run: run.ready(3)),
    (Stage.STARTING, WorkerInput.STOP): Row(3, restarted, lambda run: run.ask("rollback")),
    (Stage.STARTING, WorkerInput.EXIT): Row(3, restarted, lambda run: run.end(3, 1)),
    (Stage.STANDBY, WorkerInput.SHARE): Row(3, half_ready, lambda run: run.ready(4)),
    (Stage.STANDBY, WorkerInput.UNSHARE): Row(5, finishes, lambda run: run.ready(5)),
    (Stage.STANDBY, WorkerInput.STOP): Row(3, half_ready, lambda run: run.ask("rollback")),
    (Stage.STANDBY, WorkerInput.EXIT): Row(3, half_ready, lambda run: run.end(3, 1)),
    (Stage.SERVING, WorkerInput.UNSHARE): Row(1, restarted, lambda run: run.ready()),
    (Stage.SERVING, WorkerInput.STOP): Row(1, lambda run: None, stopped),
    (Stage.SERVING, WorkerInput.EXIT): Row(1, lambda run: None, lambda run: run.end(1, 1)),
    (Stage.DRAINING, WorkerInput.SHARE): Row(1, drains, lambda run: run.ask("rollback")),
    (Stage.DRAINING, WorkerInput.STOP): Row(1, drains, lambda run: run.round(41.0)),
    (Stage.DRAINING, WorkerInput.EXIT): Row(1, drains, lambda run: run.end(1, 1)),
    (Stage.STOPPING, WorkerInput.KILL): Row(1, stopped, lambda run: run.settle(11.0)),
    (Stage.STOPPING, WorkerInput.EXIT): Row(1, stopped, lambda run: run.end(1)),
    (Stage.KILLED, WorkerInput.EXIT): Row(1, killed, lambda run: run.end(1, -9)),
}


def test_every_row_has_its_way() -> None:
    """A new row of the table needs a way here."""
    assert ROWS.keys() == WORKER.keys()


@pytest.mark.parametrize("row", WORKER, ids=lambda row: f"{row[0].name}-{row[1].name}")
def test_a_row_is_performed(
    row: tuple[Stage, WorkerInput], simulated: Simulated, begin: Callable[..., Run]
) -> None:
    """The worker is in the row's stage, the input happens, and it is in the next one."""
    way = ROWS[row]
    # Only where nothing migrates is there a finisher.
    simulated.migrates = row != (Stage.STANDBY, WorkerInput.UNSHARE)
    run = begin()
    run.runner.open()
    run.serve()
    way.arrive(run)
    worker = run.worker(way.worker)
    if row[0] is Stage.STANDBY and row[1] is WorkerInput.UNSHARE:
        assert worker.finisher  # it is ready and retired in one round
    else:
        assert worker.stage is row[0]
    way.happen(run)
    assert worker.stage is WORKER[row]
