"""The lifecycle tables, every cell of them."""

from __future__ import annotations

from itertools import product

import pytest

from segue.errors import IllegalInput
from segue.supervisor.lifecycle.ending import ENDING
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.stages import (
    INSTANCE,
    WORKER,
    InstanceInput,
    Phase,
    Stage,
    WorkerInput,
)


@pytest.mark.parametrize(("stage", "given"), list(product(Stage, WorkerInput)))
def test_a_worker_goes_by_the_table_and_by_nothing_else(stage: Stage, given: WorkerInput) -> None:
    """A pair with a row follows it; a pair without one raises and changes nothing."""
    worker = Worker(1, 1, 7, 0.0, stage=stage, stage_since=1.0)
    if (stage, given) in WORKER:
        worker.feed(given, 2.0)
        assert worker.stage is WORKER[stage, given]
        assert worker.stage_since == 2.0
        assert worker.stop_requested is (given in {WorkerInput.STOP, WorkerInput.KILL})
    else:
        with pytest.raises(
            IllegalInput, match=rf"worker 1.1 \(pid 7\): {given.name} in {stage.name}"
        ):
            worker.feed(given, 2.0)
        assert (worker.stage, worker.stage_since, worker.stop_requested) == (stage, 1.0, False)


@pytest.mark.parametrize(("phase", "given"), list(product(Phase, InstanceInput)))
def test_an_instance_goes_by_the_table_and_by_nothing_else(
    phase: Phase, given: InstanceInput
) -> None:
    """A pair with a row follows it; a pair without one raises and changes nothing."""
    instance = Instance(size=1, phase=phase)
    if (phase, given) in INSTANCE:
        instance.feed(given)
        assert instance.phase is INSTANCE[phase, given]
    else:
        with pytest.raises(IllegalInput, match=f"{given.name} in {phase.name}"):
            instance.feed(given)
        assert instance.phase is phase


def test_every_worker_can_reach_its_end() -> None:
    """From each stage but the last an exit leads to GONE: a process may die at any time."""
    for stage in Stage:
        if stage is not Stage.GONE:
            assert WORKER[stage, WorkerInput.EXIT] is Stage.GONE


def test_every_instance_can_be_stopped() -> None:
    """From each phase in which it does not stop yet, and from there to its end."""
    for phase in Phase:
        if phase not in ENDING:
            assert INSTANCE[phase, InstanceInput.STOP] is Phase.LEAVING
    assert INSTANCE[Phase.LEAVING, InstanceInput.REFUSE] is Phase.STOPPING
    assert INSTANCE[Phase.STOPPING, InstanceInput.EMPTY] is Phase.ENDED
