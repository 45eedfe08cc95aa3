"""The lifecycle tables, every cell of them."""

from __future__ import annotations

from itertools import product

import pytest

from segue.errors import IllegalInput
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.stages import INSTANCE, WORKER, Order, Phase, Stage, Turn


@pytest.mark.parametrize(("stage", "turn"), list(product(Stage, Turn)))
def test_a_worker_goes_by_the_table_and_by_nothing_else(stage: Stage, turn: Turn) -> None:
    """A pair with a row follows it; a pair without one raises and changes nothing."""
    worker = Worker(1, 1, 7, 0.0, stage=stage, since=1.0)
    if (stage, turn) in WORKER:
        worker.feed(turn, 2.0)
        assert worker.stage is WORKER[stage, turn]
        assert worker.since == 2.0
        assert worker.asked is (turn in {Turn.STOP, Turn.KILL})
    else:
        with pytest.raises(
            IllegalInput, match=rf"worker 1.1 \(pid 7\): {turn.name} in {stage.name}"
        ):
            worker.feed(turn, 2.0)
        assert (worker.stage, worker.since, worker.asked) == (stage, 1.0, False)


@pytest.mark.parametrize(("phase", "order"), list(product(Phase, Order)))
def test_an_instance_goes_by_the_table_and_by_nothing_else(phase: Phase, order: Order) -> None:
    """A pair with a row follows it; a pair without one raises and changes nothing."""
    instance = Instance(size=1, phase=phase)
    if (phase, order) in INSTANCE:
        instance.feed(order)
        assert instance.phase is INSTANCE[phase, order]
    else:
        with pytest.raises(IllegalInput, match=f"{order.name} in {phase.name}"):
            instance.feed(order)
        assert instance.phase is phase


def test_every_worker_can_reach_its_end() -> None:
    """From each stage but the last an exit leads to GONE: a process may die at any time."""
    for stage in Stage:
        if stage is not Stage.GONE:
            assert WORKER[stage, Turn.EXIT] is Stage.GONE


def test_every_instance_can_be_stopped() -> None:
    """From each phase but the last STOP leads to STOPPING."""
    for phase in Phase:
        if phase is not Phase.ENDED:
            assert INSTANCE[phase, Order.STOP] is Phase.STOPPING
