"""What rescue makes of its looks: stalls found, queues that may move, wakes, and the bell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from tests.supervisor.rescue.doubles import BACKLOG, PATIENCE, Knocking, World, worker

from segue.errors import KernelError
from segue.observe.stall import LOOKS
from segue.supervisor.lifecycle.health import Stall
from segue.supervisor.lifecycle.plan import FOREVER
from segue.supervisor.rescue.rescue import CYCLE_AGAIN, Rescue
from segue.supervisor.rescue.watched import Thresholds

EVERY = PATIENCE / LOOKS
LIMIT = 1.0  # seconds of stalls after which a worker is replaced
FIRST, SECOND, THIRD = worker(1, 2), worker(2, 2), worker(3, 2)


class Desk:
    """A rescue of three workers with a listener each at two addresses."""

    def __init__(self, every: float = EVERY) -> None:
        self.world = World(FIRST, SECOND, THIRD)
        self.knocking = Knocking()
        self.looks: list[tuple[dict[int, int], list[int]]] = []
        self.rescue = Rescue(
            self.world,
            self.world.fronts,
            Thresholds(PATIENCE, every, LIMIT),
            loop=self.world,
            say=self.world.said.append,
            saw=self._saw,
            knock=self.knocking,
        )
        self.rescue.prepare()

    def _saw(
        self, _: float, __: float, depths: Mapping[int, int], stalls: Mapping[int, Stall]
    ) -> None:
        self.looks.append((dict(depths), list(stalls)))

    def look(self, looks: int = 1) -> bool:
        """So many looks at their times; whether the last has found something."""
        for _ in range(looks):
            self.world.time += EVERY
            self.rescue.prepare()
            self.rescue.look()
        return self.rescue.found

    def stall(self, count: int = 3) -> None:
        """So many connections wait at the first worker until it is found stalled."""
        self.world.arrive(FIRST.listeners[0], count)
        for _ in range(LOOKS + 2):
            if self.look():
                break
        assert set(self.rescue.stalls) == {1}

    def move(self, moved: int | None = None) -> int:
        """What the performer does; how many clients that moved."""
        fitting = self.rescue.fitting(1)
        assert fitting
        waiting = sum(self.world.queues[at.cookie] for at in fitting)
        for at in fitting:
            self.world.set_queue(at, 0)
        return self.rescue.moved(1, waiting if moved is None else moved)

    def close(self) -> None:
        self.rescue.close()
        self.world.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def test_a_worker_that_accepts_nothing_is_found(desk: Desk) -> None:
    """After the patience, with what waits at all of its listeners, and said once."""
    desk.world.arrive(FIRST.listeners[0], 3)
    desk.world.arrive(FIRST.listeners[1], 2)
    assert not desk.look(LOOKS)
    assert desk.look(2)
    assert desk.rescue.stalls[1].queue == 5
    assert len(desk.world.said) == 1
    assert "worker 1.1 has accepted nothing for" in desk.world.said[0]
    assert desk.rescue.histories[1].stalls == 1
    assert desk.looks[0] == ({1: 5}, [])
    assert desk.looks[-1] == ({}, [1])


def test_a_queue_that_shrinks_is_no_stall(desk: Desk) -> None:
    """Its worker accepts, however slowly."""
    at = FIRST.listeners[0]
    desk.world.arrive(at, 9)
    for left in range(8, 0, -1):
        assert not desk.look(2)
        desk.world.set_queue(at, left)
    assert not desk.rescue.stalls


def test_accepts_behind_arrivals_are_no_stall(desk: Desk) -> None:
    """More was selected than waits and than the half-open requests can be."""
    at = FIRST.listeners[0]
    desk.world.arrive(at, 3)
    for _ in range(3 * LOOKS):
        desk.world.fronts[0].counted[1] += 2
        desk.world.fronts[0].requests = 1
        assert not desk.look()
    assert not desk.rescue.stalls


def test_a_stall_after_such_accepts_is_found(desk: Desk) -> None:
    """What was accepted before counts no more once it has been seen."""
    desk.world.arrive(FIRST.listeners[0], 3)
    for _ in range(2 * LOOKS):
        desk.world.fronts[0].counted[1] += 2
        assert not desk.look()
    assert any(desk.look() for _ in range(3 * LOOKS))
    assert set(desk.rescue.stalls) == {1}


def test_nobody_is_stalled_where_all_are(desk: Desk) -> None:
    """Without room at a sibling nothing is moved, and nothing that costs more is read."""
    for one in (FIRST, SECOND, THIRD):
        desk.world.arrive(one.listeners[0])
    assert not desk.look(3 * LOOKS)
    assert not desk.rescue.stalls
    assert desk.world.looks == 3 * LOOKS


def test_only_what_fits_is_moved(desk: Desk) -> None:
    """Of two listeners the one whose queue the siblings have room for."""
    narrow, wide = FIRST.listeners
    desk.world.arrive(narrow, 2 * (BACKLOG + 1) + 1)
    desk.world.arrive(wide, 1)
    assert desk.look(LOOKS + 2)
    assert desk.rescue.fitting(1) == (wide,)


def test_what_does_not_fit_waits(desk: Desk) -> None:
    """Nothing is moved, nobody is hung up on, and it is tried again after the patience."""
    desk.world.arrive(FIRST.listeners[1], 2)
    assert desk.look(LOOKS + 2)
    desk.world.set_queue(FIRST.listeners[1], 2 * (BACKLOG + 1) + 1)
    assert desk.rescue.fitting(1) == ()
    assert desk.rescue.stalls[1].not_before == desk.world.time + PATIENCE
    assert not desk.look(LOOKS - 1)
    assert desk.look()


def test_room_is_given_once(desk: Desk) -> None:
    """Two stalled workers do not both fill the one sibling that is awake."""
    desk.world.arrive(FIRST.listeners[0], BACKLOG)
    desk.world.arrive(SECOND.listeners[0], BACKLOG)
    assert desk.look(LOOKS + 2)
    assert set(desk.rescue.stalls) == {1, 2}
    assert desk.rescue.fitting(1) == (FIRST.listeners[0],)
    assert desk.rescue.fitting(2) == ()


def test_a_sibling_without_a_share_has_no_room(desk: Desk) -> None:
    """One that drains takes nothing, and one whose weight is zero, whatever room there is."""
    desk.world.workers[2] = worker(2, 2, shares=False)
    desk.world.sharing.remove(3)
    desk.world.arrive(FIRST.listeners[0])
    assert not desk.look(3 * LOOKS)
    assert not desk.rescue.stalls


def test_clients_are_counted_without_our_knocks(desk: Desk) -> None:
    """A knock that waits in the queue is moved with it, and is nobody's connection."""
    desk.stall(3)
    assert desk.move() == 3
    desk.world.arrive(FIRST.listeners[0], 3)  # one of them is our knock
    desk.world.arrive(FIRST.listeners[1], 1)  # and so is this
    desk.world.time += CYCLE_AGAIN
    assert desk.look()
    assert desk.rescue.stalls[1].queue == 2
    assert desk.move(moved=4) == 2
    assert desk.rescue.rescued == desk.rescue.histories[1].rescued == 5
    assert [one.closed for one in desk.knocking.made] == [True, True, False, False]


def test_a_moved_queue_is_knocked_at(desk: Desk) -> None:
    """At each listener, as soon as it is empty; and it is not cycled again at once."""
    desk.stall()
    desk.move()
    assert [one.at for one in desk.knocking.made] == list(FIRST.listeners)
    stall = desk.rescue.stalls[1]
    assert (stall.queue, stall.not_before) == (0, desk.world.time + CYCLE_AGAIN)


def test_an_awake_worker_is_stalled_no_more(desk: Desk) -> None:
    """It accepts promptly: it is due for the plan, and said with what was moved away."""
    desk.stall()
    desk.move()
    assert not desk.look(2 * LOOKS)
    desk.knocking.accept()
    assert not desk.look()  # which had waited for too long
    desk.knocking.accept()
    assert desk.look()
    assert not desk.rescue.stalls
    assert "worker 1.1 accepts again" in desk.world.said[-1]
    assert "3 connection(s)" in desk.world.said[-1]
    assert all(one.closed for one in desk.knocking.made)
    assert desk.rescue.stalled(1) is None
    assert (desk.rescue.history(1).stalls, desk.rescue.history(1).rescued) == (1, 3)
    assert desk.rescue.diverted(1) == 3 + 4


def test_a_second_stall_is_said_later(desk: Desk) -> None:
    """A worker that stalls every second is not in the log every second."""
    desk.stall()
    desk.move()
    desk.knocking.accept()
    assert desk.look()
    assert not desk.rescue.stalls
    said = list(desk.world.said)
    desk.stall()
    assert desk.world.said == said
    assert desk.rescue.histories[1].stalls == 2
    desk.move()
    desk.knocking.accept()
    assert desk.look()
    desk.world.time += 10.0
    desk.stall()
    assert desk.world.said[-1].endswith("; 1 stall(s) before this one were not logged")


def test_stalls_add_up_to_a_kill(desk: Desk) -> None:
    """The total is due for the plan when it reaches the limit, though nobody waits."""
    desk.stall()
    desk.move()
    looks = 1
    while not desk.look():
        looks += 1
        assert desk.rescue.stalls[1].total < LIMIT
    assert desk.rescue.stalls[1].total >= LIMIT
    assert looks > LIMIT / (2 * EVERY)


def test_a_draining_worker_is_not_knocked_at(desk: Desk) -> None:
    """It has no share to get back: it is forgotten as soon as nobody waits there."""
    desk.world.workers[1] = worker(1, 2, shares=False)
    desk.stall()
    desk.move()
    assert not desk.look()
    assert not desk.knocking.made
    assert not desk.rescue.stalls


def test_an_ended_worker_is_forgotten(desk: Desk) -> None:
    """Stall, history and knocks; what it had room for counts no more."""
    desk.stall()
    desk.move()
    desk.rescue.ended(1)
    assert not desk.rescue.stalls
    assert not desk.rescue.histories
    assert all(one.closed for one in desk.knocking.made)
    assert desk.rescue.diverted(1) == 0


def test_a_worker_that_is_watched_no_more_is_forgotten(desk: Desk) -> None:
    """Its stall ends with the next look at who is watched."""
    desk.stall()
    del desk.world.workers[1]
    desk.rescue.prepare()
    assert not desk.rescue.stalls


def test_a_refusal_of_the_kernel_is_tried_again(desk: Desk) -> None:
    """Without room for the listeners there are no looks, and with it there are again."""
    desk.world.workers[1] = worker(1)
    desk.world.refuses = True
    for _ in range(2):
        with pytest.raises(KernelError):
            desk.rescue.prepare()
        assert desk.rescue.due == FOREVER
    desk.world.refuses = False
    desk.rescue.prepare()
    assert desk.rescue.due < FOREVER


def test_a_refused_knock_is_tried_at_the_next_look(desk: Desk) -> None:
    """What was moved is counted, the stall goes on, and the next look does not come at once."""
    desk.stall()
    desk.knocking.refuse_after = 0
    assert desk.move() == 3
    with pytest.raises(KernelError):
        desk.look()
    assert desk.world.time < desk.rescue.due < FOREVER
    desk.knocking.refuse_after = None
    desk.look()
    assert len(desk.knocking.made) == 2


def test_the_bell_rings_when_somebody_connects(desk: Desk) -> None:
    """After a second without anybody there are no looks until the epoll instance is readable."""
    looks = 0
    while desk.rescue.due < FOREVER:
        desk.look()
        looks += 1
    assert looks > 1 / (2 * EVERY)
    (ring,) = desk.world.handlers.values()
    ring()
    assert not desk.world.handlers
    assert desk.rescue.due == desk.world.time + 1.5 * EVERY


def test_the_bell_is_silenced_by_other_listeners(desk: Desk) -> None:
    """It hangs on an epoll instance that is made anew for them."""
    while desk.rescue.due < FOREVER:
        desk.look()
    del desk.world.workers[3]
    desk.rescue.prepare()
    assert not desk.world.handlers
    assert desk.rescue.due < FOREVER


def test_a_worker_alone_is_not_looked_at(desk: Desk) -> None:
    """Nobody could take its queue."""
    del desk.world.workers[2], desk.world.workers[3]
    desk.rescue.prepare()
    assert desk.rescue.due == FOREVER


def test_a_stall_ends_although_its_worker_is_left_alone(desk: Desk) -> None:
    """Else it would be stalled for ever in the eyes of the status, however much it accepts."""
    desk.stall()
    desk.move()
    del desk.world.workers[2], desk.world.workers[3]
    desk.rescue.prepare()
    assert desk.rescue.due < FOREVER
    assert not desk.look(2 * LOOKS)
    assert set(desk.rescue.stalls) == {1}
    desk.knocking.accept()
    assert not desk.look()  # which had waited for too long
    desk.knocking.accept()
    assert desk.look()
    assert "worker 1.1 accepts again" in desk.world.said[-1]
    desk.rescue.prepare()
    assert (desk.rescue.stalls, desk.rescue.due) == ({}, FOREVER)


def test_a_quiet_look_asks_for_no_queue(desk: Desk) -> None:
    """It is one system call, and whoever balances hears that nobody waits."""
    desk.look(3)
    assert desk.world.looks == 0
    assert desk.looks == [({}, [])] * 3
