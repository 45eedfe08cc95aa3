"""Recycling in a run: the successor first, what is counted and what a next supervisor knows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.supervisor.run.doubles import Recording, Run, Simulated
from tests.supervisor.run.test_resume import renewed

from segue.policy.counts import Counts

Begin = Callable[..., Run]


class Counted(Recording):
    """A steering that counts what the test says."""

    def __init__(self, world: Simulated, selected: dict[int, int]) -> None:
        super().__init__(world)
        self._selected = selected

    def counted(self, slot: int) -> Counts:
        return Counts(new=self._selected.get(slot, 0))

    def counts(self) -> dict[int | None, Counts]:
        return {slot: self.counted(slot) for slot in self.members}


@pytest.fixture
def counts(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """What the steering has selected for each slot; the test may change it."""
    selected: dict[int, int] = {}

    def steering(*_: object) -> Recording:
        made = Counted(simulated, selected)
        simulated.steerings.append(made)
        return made

    monkeypatch.setattr(simulated, "steering", steering)
    return selected


def slot(run: Run, worker: int) -> int:
    """The slot of a worker's only listener."""
    return run.worker(worker).listeners[0].slot


def recycled(run: Run) -> int | None:
    """The worker that is being recycled."""
    current = run.instance.recycling
    return None if current is None or current.waits else current.worker


def test_a_worker_is_replaced_by_its_age(begin: Begin) -> None:
    """Its successor gets the share, then it is told to stop, and the next one has its turn."""
    run = begin(max_lifetime=1000.0)
    run.serve()
    run.round(1100.0)
    first = recycled(run)
    assert first is not None
    assert run.stages == {1: "SERVING", 2: "SERVING", 3: "STARTING"}
    assert set(run.shares()) == {1, 2}
    run.ready(3)
    assert set(run.shares()) == {1, 2, 3} - {first}
    run.round(1.0)
    assert run.signals(first)
    run.end(first)
    run.round(1.0)
    run.round(1.0)
    assert recycled(run) == 3 - first
    assert f"worker 1.{first} (pid" in run.log
    assert "(--max-lifetime 1000); its successor starts" in run.log


def test_a_worker_is_replaced_by_what_it_was_given(begin: Begin, counts: dict[int, int]) -> None:
    """What its slot had before counts for no one."""
    run = begin(workers=1, max_connections=100)
    counts[0] = 5000
    run.serve()
    run.round(1.0)
    counts[slot(run, 1)] += 80
    run.round(1.0)
    assert run.worker(1).given == 80
    assert recycled(run) is None
    counts[slot(run, 1)] += 20
    run.round(1.0)
    assert recycled(run) == 1
    assert "100 of " in run.log


def test_counts_and_ages_outlive_the_code(begin: Begin, counts: dict[int, int]) -> None:
    """Over ``segue reexec`` they go on, and so does a recycling that is under way."""
    run = begin(workers=1, max_connections=100)
    run.serve()
    run.round(1.0)
    counts[slot(run, 1)] = 80
    run.round(1.0)
    renewed(run)
    run.round(1.0)
    counts[slot(run, 1)] += 20
    run.round(1.0)
    assert run.worker(1).given == 100
    assert recycled(run) == 1
    renewed(run)
    run.ready(2)
    assert set(run.shares()) == {2}


def test_a_next_supervisor_knows_most_of_the_count(
    begin: Begin, counts: dict[int, int], killed: Callable[[Run], None]
) -> None:
    """All but a tenth of the limit, and what came while there was none."""
    run = begin(workers=1, max_connections=1000)
    run.serve()
    run.round(1.0)
    for total in range(50, 850, 50):
        counts[slot(run, 1)] = total
        run.round(1.0)
    before = run.worker(1).given
    counts.clear()  # its steering is new
    killed(run)
    run.round(1.0)
    assert before == 800
    assert 700 <= run.worker(1).given <= 800
    counts[slot(run, 1)] = 300
    run.round(1.0)
    assert recycled(run) == 1


def test_the_only_worker_dies_before_its_successor_is_ready(begin: Begin) -> None:
    """What waits at its listener, and what comes, is the successor's."""
    run = begin(workers=1, max_lifetime=1000.0)
    run.serve()
    run.round(1100.0)
    assert run.stages == {1: "SERVING", 2: "STARTING"}
    run.wait(1, 7)
    run.end(1, -9)
    assert run.stages == {2: "STARTING"}
    assert run.simulated.lost == 0
    run.ready(2)
    run.round(0.1)
    assert set(run.shares()) == {2}
    assert run.simulated.queues[run.worker(2).listeners[0].cookie] == 7
    assert run.simulated.lost == 0


def test_without_limits_what_had_begun_is_over(begin: Begin) -> None:
    """New settings have none: the successor is one too many."""
    run = begin(workers=1, max_lifetime=1000.0)
    run.serve()
    run.round(1100.0)
    assert recycled(run) == 1
    renewed(run, max_lifetime=0.0)
    run.settle(1.0)
    assert recycled(run) is None
    assert run.signals(2)
