"""When all connections are looked at, and when one of each worker is enough."""

from __future__ import annotations

import gc
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from segue.address import Address
from segue.group import Connection, Group
from segue.observe.snapshot import Part
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.plan import HALF_OPEN
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.workers.survey import Survey

HERE = Address("127.0.0.1", 8000)
GRACE = 1.0
NOBODY = 1 << 23  # above the largest pid there can be


@dataclass
class Scene:
    """A front whose connections the test sets; a look takes so much of the time and processor."""

    now: float = 1000.0
    spent: float = 0.0
    cost: float = 0.0
    check_cost: float = 0.0
    holds: dict[int, int] = field(default_factory=dict)  # inode -> worker
    moved: dict[int, float] = field(default_factory=dict)  # inode -> when; inf while it is owed
    looks: int = 0
    checks: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        self.bind = self
        self.address = HERE
        self.number = 0
        self.parts: set[Part] = set()  # at the last look
        self.collects = True  # then, too
        self.steering = self
        self.migrates = True
        self.refusing = False
        self.requests: frozenset[int] = frozenset()  # half-open
        self.instance = Instance(size=2)
        observer: Any = self
        self.survey = Survey(observer, GRACE, lambda: self.now, lambda: self.spent)

    def worker(self, number: int, stage: Stage = Stage.DRAINING, since: float = 0.0) -> Worker:
        made = Worker(number, 1, NOBODY + number, 0.0, stage=stage, stage_since=since)
        self.instance.workers[number] = made
        return made

    def _connection(self, inode: int) -> Connection:
        moved = self.moved[inode]
        ago = 0 if moved == math.inf else round(1000 * (self.now - moved))
        unsent = int(moved == math.inf)
        return Connection(inode, inode, ("x", inode), 1, 0, unsent, ago, ago, bytes_received=1)

    # As in Observer and Processes

    def snapshot(self, _: Address, *parts: Part, pids: frozenset[int]) -> Group:
        self.looks += 1
        self.parts = set(parts)
        self.collects = gc.isenabled()
        seen = tuple(map(self._connection, self.moved))
        self.now += self.cost
        self.spent += self.cost
        whose = {inode: NOBODY + worker for inode, worker in self.holds.items()}
        listed = self.requests if Part.REQUESTS in parts else frozenset()
        return Group(HERE, requests=listed, connections=seen, owners=whose)

    def again(self, those: Sequence[Connection]) -> list[Connection | None]:
        self.checks += 1
        self.spent += self.check_cost
        inodes = [one.inode for one in those]
        return [self._connection(one) if one in self.moved else None for one in inodes]

    def trees(self, only: Collection[int] | None = None) -> Any:
        asked = self.instance.workers if only is None else only
        return {one: frozenset({NOBODY + one}) for one in asked}, frozenset()

    # The test's hands

    def run(self, seconds: float) -> None:
        """As the loop does, for so long: look when it is time, and ``step`` if one fell."""
        end, witnesses = self.now + seconds, self.survey.witnesses
        turns = 0
        while (due := min(self.survey.due(self.instance), witnesses.due)) <= end:
            self.now = max(self.now, due)
            looked = self.now >= witnesses.due
            if looked:
                witnesses.look()
            if not looked or witnesses.found:
                self.step()
            turns += 1
            assert turns < 100_000
        self.now = max(self.now, end)

    def step(self) -> None:
        self.steps += 1
        args: Any = self.instance, self, [self]
        self.survey.step(*args)

    def look(self) -> None:
        """At everything, whether or not it is due."""
        args: Any = self.instance, self, [self]
        self.survey.look(*args)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_nothing_is_due_while_no_worker_ends(scene: Scene) -> None:
    """Serving workers are not looked at."""
    scene.worker(1, Stage.SERVING)
    assert scene.survey.due(scene.instance) == math.inf
    scene.step()
    assert scene.looks == 0


@pytest.mark.parametrize("migrates", [True, False])
@pytest.mark.parametrize("refusing", [True, False])
def test_requests_are_only_listed_where_they_matter(
    scene: Scene, *, migrates: bool, refusing: bool
) -> None:
    """An engine that migrates takes care of what is late, unless nobody may get it any more."""
    scene.migrates, scene.refusing = migrates, refusing
    scene.worker(1)
    scene.requests = frozenset({7})
    for _ in range(2):
        scene.look()
        assert (Part.REQUESTS in scene.parts) == (refusing or not migrates)


def test_requests_are_listed_until_those_of_the_flip_are_gone(scene: Scene) -> None:
    """Each list costs the kernel a walk through all sockets of the host."""
    scene.worker(1, since=scene.now)
    scene.look()
    assert Part.REQUESTS not in scene.parts, "too early to know them"
    scene.now += 0.1
    for listed in (frozenset({7, 8}), frozenset({8, 9}), frozenset({9})):
        scene.requests = listed
        scene.look()
        assert Part.REQUESTS in scene.parts
    scene.look()
    assert Part.REQUESTS not in scene.parts
    assert scene.survey.loads[1].quiet
    scene.worker(2, since=scene.now - 0.1)
    scene.look()
    assert Part.REQUESTS in scene.parts, "those of another worker are not known"
    assert [scene.survey.loads[one].requests for one in (1, 2)] == [0, 1]


def test_a_worker_is_not_quiet_before_the_handshakes_of_the_flip_are_over(scene: Scene) -> None:
    """It would accept them after it was told to stop, and close what it has not read."""
    scene.worker(1, since=scene.now)
    scene.requests = frozenset({7, 8})
    scene.run(0.1)
    assert scene.survey.loads[1].requests == 2
    scene.requests = frozenset({8, 9})  # 9 has come since, at another listener
    scene.run(0.1)
    assert scene.survey.loads[1].requests == 1
    scene.requests = frozenset({9})
    scene.run(0.1)
    assert scene.survey.loads[1].quiet


def test_a_client_that_is_gone_is_not_awaited_where_it_migrates(scene: Scene) -> None:
    """After the time that a stop has for it too."""
    scene.worker(1, since=scene.now)
    scene.requests = frozenset({7})
    scene.run(HALF_OPEN - 0.1)
    assert not scene.survey.loads[1].quiet
    scene.run(0.2)
    assert scene.survey.loads[1].quiet


def test_while_one_connection_of_each_worker_is_in_use_they_alone_are_looked_up(
    scene: Scene,
) -> None:
    """All connections are listed once; the answers that are owed are asked for again and again."""
    scene.worker(1)
    scene.worker(2)
    scene.holds = {11: 1, 12: 1, 21: 2}
    scene.moved = {11: math.inf, 12: 0.0, 21: math.inf}
    scene.run(10.0)
    assert scene.looks == scene.steps == 1, "and a look at these alone is no round of the loop"
    assert scene.checks > 20
    assert [scene.survey.loads[one].busy for one in (1, 2)] == [1, 1]


@pytest.mark.parametrize("answered", [10.0, 10.1, 10.2, 10.3, 10.4])
def test_a_witness_that_was_answered_falls_when_its_grace_is_over(
    scene: Scene, answered: float
) -> None:
    """However seldom it is looked up, if no bytes move: that is known when it has its answer."""
    scene.worker(1)
    scene.holds, scene.moved = {11: 1}, {11: math.inf}
    scene.run(answered)
    scene.moved[11] = scene.now
    scene.run(GRACE + 0.02)
    assert scene.survey.loads[1].quiet


def test_the_witnesses_of_many_workers_are_looked_up_for_a_small_part_of_a_core(
    scene: Scene,
) -> None:
    """However long that takes, and however soon one could be closed."""
    scene.check_cost = 0.01
    scene.worker(1)
    scene.holds, scene.moved = {11: 1}, {11: math.inf}
    scene.run(19.0)
    assert 5 * 0.01 < scene.spent <= 19 / 200 + 0.03 + 0.01


def test_nothing_is_looked_up_once_nobody_drains(scene: Scene) -> None:
    """A worker that was told to stop, at its limit, has its connections still."""
    worker = scene.worker(1)
    scene.holds, scene.moved = {11: 1}, {11: math.inf}
    scene.run(1.0)
    worker.stage = Stage.GONE
    scene.step()
    before = scene.checks
    scene.run(1.0)
    assert scene.checks == before


@pytest.mark.parametrize("gone", [False, True])
def test_when_a_witness_has_fallen_everything_is_looked_at(scene: Scene, gone: bool) -> None:
    """It has been idle for the grace, or is no more: the worker may be quiet, and is."""
    scene.worker(1)
    scene.holds, scene.moved = {11: 1, 12: 1}, {11: math.inf, 12: 0.0}
    scene.run(5.0)
    if gone:
        del scene.moved[11]
    else:
        scene.moved[11] = scene.now
    scene.run(GRACE + 0.1)
    assert scene.survey.loads[1].quiet
    assert scene.survey.loads[1].idle == 2 - gone


def test_a_look_tells_since_when_a_worker_has_had_no_connection(scene: Scene) -> None:
    """The first look that found none, however many have found none since."""
    scene.worker(1, Stage.STOPPING)
    scene.holds, scene.moved = {11: 1}, {11: math.inf}
    scene.run(2.0)
    del scene.moved[11]
    gone = scene.now
    scene.run(2.0)
    assert gone <= scene.survey.loads[1].empty_since <= gone + 0.1


def test_another_connection_in_use_is_the_next_witness(scene: Scene) -> None:
    """A worker is quiet only when a look at all of its connections says so."""
    scene.worker(1)
    scene.holds, scene.moved = {11: 1, 12: 1}, {11: math.inf, 12: math.inf}
    scene.run(1.0)
    witness = scene.survey.witnesses.held[1].inode
    del scene.moved[witness]
    scene.run(1.0)
    assert not scene.survey.loads[1].quiet
    assert scene.survey.witnesses.held[1].inode == 23 - witness


def test_a_connection_that_the_worker_has_closed_is_no_witness(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel still sends what was written, with inode 0; the worker is quiet."""
    scene.worker(1)
    scene.holds, scene.moved = {11: 1}, {11: math.inf}
    scene.run(1.0)
    closed = scene._connection(11)._replace(inode=0)
    monkeypatch.setattr(scene, "again", lambda _: [closed])
    scene.holds, scene.moved = {}, {}
    scene.run(1.0)
    assert scene.survey.loads[1].quiet


def test_looks_cost_a_thirtieth_of_a_core_and_what_was_saved(scene: Scene) -> None:
    """However long one takes, and though no witness ever stands."""
    scene.worker(1)
    scene.cost = 0.2
    scene.run(60.0)
    assert 0.2 * 5 < scene.spent <= 60 / 30 + 0.3 + 0.2


def test_a_look_lets_no_garbage_be_looked_for(scene: Scene) -> None:
    """Thousands of connections would be looked through again and again, and none is garbage."""
    scene.worker(1)
    scene.look()
    assert (scene.collects, gc.isenabled()) == (False, True)


def test_a_look_waits_for_another_worker_that_may_be_quiet_soon(scene: Scene) -> None:
    """Two that become quiet shortly after one another are found by one look."""
    scene.cost = 0.2
    for number in (1, 2):
        scene.worker(number)
        scene.holds[number] = number
        scene.moved[number] = math.inf
    scene.run(5.0)
    scene.moved = {1: scene.now, 2: scene.now + 0.1}
    while scene.looks == 1:
        scene.run(0.01)
    assert all(scene.survey.loads[one].quiet for one in (1, 2))


def test_it_does_not_wait_for_long(scene: Scene) -> None:
    """A worker on which something moves all the time keeps no other one from ending."""
    scene.cost = 0.6  # so that all of the grace is soon
    for number in (1, 2):
        scene.worker(number)
        scene.holds[number] = number
        scene.moved[number] = math.inf
    scene.run(10.0)
    scene.moved[1] = scene.now
    for _ in range(40):
        scene.moved[2] = scene.now
        scene.run(0.1)
    assert scene.survey.loads[1].quiet


def test_a_worker_that_begins_to_drain_is_looked_at(scene: Scene) -> None:
    """Whatever witnesses others have: nothing is known of it yet."""
    scene.worker(1)
    scene.holds, scene.moved = {11: 1}, {11: math.inf}
    scene.run(1.0)
    scene.worker(2)
    scene.survey.forget(2)
    scene.run(0.1)
    assert scene.survey.loads[2].quiet


def test_the_first_look_is_one_that_can_decide(scene: Scene) -> None:
    """Just after the flip the half-open requests are not known, and a look would be in vain."""
    scene.worker(1, since=scene.now)
    scene.run(0.009)
    assert scene.looks == 0
    scene.run(0.002)
    assert scene.looks == 1
    assert scene.survey.loads[1].quiet


def test_while_the_instance_stops_everything_is_looked_at(scene: Scene) -> None:
    """A worker that has read all requests may be told to stop though they are not answered."""
    scene.worker(1)
    scene.holds, scene.moved = {11: 1}, {11: math.inf}
    scene.run(1.0)
    assert scene.looks == 1
    scene.instance.phase = Phase.STOPPING
    scene.run(1.0)
    assert scene.looks > 10


def test_before_a_decision_everything_is_looked_at_unless_it_just_was(scene: Scene) -> None:
    """What a limit decides about is known as it is then."""
    scene.worker(1)
    scene.holds, scene.moved = {11: 1, 12: 1}, {11: math.inf, 12: math.inf}
    scene.run(3.0)
    assert scene.looks == 1
    del scene.moved[12]
    args: Any = scene.instance, scene, [scene]
    scene.survey.refresh(*args)
    scene.survey.refresh(*args)
    assert scene.looks == 2
    assert scene.survey.loads[1].busy == 1
