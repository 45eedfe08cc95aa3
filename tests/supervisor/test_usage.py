"""The memory of a worker's processes: which number counts, and what looks may cost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import cast

from segue.supervisor.workers.processes import Processes
from segue.supervisor.workers.usage import Usage


@dataclass
class Machine:
    """Workers with their processes; RSS is ten times the pid, PSS what the test says."""

    trees_: dict[int, set[int]]
    parts: dict[int, int | None] = field(default_factory=dict)
    now: float = 0.0
    used: float = 0.0  # of the processor
    cost: float = 0.0  # of one read
    read: list[int] = field(default_factory=list)  # of which the PSS was asked for

    def trees(self, only: Collection[int]) -> tuple[dict[int, frozenset[int]], frozenset[int]]:
        found = {one: frozenset(pids) for one, pids in self.trees_.items() if one in only}
        return found, frozenset()

    def resident(self, pid: int) -> int:
        self.used += self.cost
        return 10 * pid

    def proportional(self, pid: int) -> int | None:
        self.read.append(pid)
        return self.parts.get(pid)

    def usage(self) -> Usage:
        return Usage(lambda: self.now, lambda: self.used, self.resident, self.proportional)

    @property
    def processes(self) -> Processes:
        return cast("Processes", self)


def test_the_sum_counts_while_it_is_below_the_limit() -> None:
    """Of the worker and its children; the PSS, which is dear, is not asked for."""
    machine = Machine({1: {11}, 2: {12, 13}})
    assert machine.usage().look(machine.processes, {1: 500, 2: 500}) == {1: 110, 2: 250}
    assert machine.read == []


def test_above_the_limit_shared_pages_count_once() -> None:
    """Where there are several processes: of a single one the RSS counts, which people know."""
    machine = Machine({1: {11}, 2: {12, 13}}, {11: 50, 12: 60, 13: 70})
    assert machine.usage().look(machine.processes, {1: 100, 2: 200}) == {1: 110, 2: 130}
    assert machine.read == [12, 13]


def test_the_sum_counts_where_the_rest_is_hidden() -> None:
    """Of another user's processes, or one that is just gone."""
    machine = Machine({2: {12, 13}}, {12: 60, 13: None})
    assert machine.usage().look(machine.processes, {2: 200}) == {2: 250}


def test_looks_that_cost_much_are_seldom() -> None:
    """Less than 1/200 of a core in the long run, whatever one look costs."""
    machine, looks = Machine({1: set(range(1, 101))}, cost=0.001), 0
    usage = machine.usage()
    for _ in range(1000):
        machine.now += 1.0
        looks += bool(usage.look(machine.processes, {1: 1 << 40}))
    assert machine.used <= 1000 / 200 + 0.2
    assert looks >= 45
