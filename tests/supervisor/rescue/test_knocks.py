"""When a stalled worker is knocked at, and when it counts as awake."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.supervisor.rescue.doubles import PATIENCE, Knocking, worker

from segue.errors import KernelError
from segue.supervisor.rescue.knocks import Knocks
from segue.supervisor.workers.readiness import AGAIN


@pytest.fixture
def knocking() -> Knocking:
    return Knocking()


@pytest.fixture
def knocks(knocking: Knocking) -> Knocks:
    return Knocks(knocking, PATIENCE)


def test_two_prompt_knocks_wake_a_worker(knocking: Knocking, knocks: Knocks) -> None:
    """The first has waited as long as the stall lasted; the second tells."""
    one = worker(1, 2)
    assert not knocks.awake(one, 0.0, clear=True)
    knocking.accept()
    assert not knocks.awake(one, 1.0, clear=True)
    assert [made.closed for made in knocking.made] == [True, True, False, False]
    knocking.accept()
    assert knocks.awake(one, 1.0 + PATIENCE, clear=True)
    assert knocks.made[1] == 4


def test_a_slow_second_knock_is_followed_by_a_third(knocking: Knocking, knocks: Knocks) -> None:
    """A worker that accepts once and falls asleep again is not awake."""
    one = worker(1)
    knocks.begin(one, 0.0)
    knocking.accept()
    late = 2 * PATIENCE
    assert not knocks.awake(one, late, clear=True)
    assert not knocks.awake(one, 2 * late, clear=True)
    knocking.accept()
    assert not knocks.awake(one, 2 * late, clear=True)
    assert len(knocking.made) == 3


def test_every_listener_must_accept(knocking: Knocking, knocks: Knocks) -> None:
    """A worker that accepts at one of its two addresses is not awake; that knock is hung up."""
    one = worker(1, 2)
    knocks.begin(one, 0.0)
    knocking.made[0].accepted = True
    assert not knocks.awake(one, 0.0, clear=True)
    assert [made.closed for made in knocking.made] == [True, False]
    assert knocks.waiting(1) == 1


def test_a_knock_that_failed_is_tried_again_later(knocking: Knocking, knocks: Knocks) -> None:
    """At the pace of other knocks that were refused, and no sooner."""
    one = worker(1)
    knocks.begin(one, 0.0)
    knocking.made[0].failed = "its listener refused a connection"
    assert not knocks.awake(one, 0.0, clear=True)
    assert not knocks.awake(one, AGAIN / 2, clear=True)
    assert len(knocking.made) == 1
    assert not knocks.awake(one, AGAIN, clear=True)
    assert len(knocking.made) == 2


@pytest.mark.parametrize(
    "leave",
    [
        lambda knocks: knocks.awake(worker(1), 0.0, clear=False),
        lambda knocks: knocks.awake(worker(1, shares=False), 0.0, clear=True),
    ],
    ids=["a client waits", "no share"],
)
def test_who_is_not_knocked_at(
    knocking: Knocking, knocks: Knocks, leave: Callable[[Knocks], bool]
) -> None:
    """A worker at which clients wait, and one that would get no share for it."""
    assert not leave(knocks)
    assert not knocking.made


def test_a_refused_knock_leaves_none_open(knocking: Knocking, knocks: Knocks) -> None:
    """When the kernel refuses the second of two, the first is closed and none is counted."""
    knocking.refuse_after = 1
    with pytest.raises(KernelError):
        knocks.begin(worker(1, 2), 0.0)
    assert [one.closed for one in knocking.made] == [True]
    assert not knocks.made[1]
    knocking.refuse_after = None
    knocks.begin(worker(1, 2), 0.0)
    assert knocks.waiting(1) == 2


def test_an_ended_worker_is_forgotten(knocking: Knocking, knocks: Knocks) -> None:
    """Its knocks are closed, and the next one under its number begins anew."""
    knocks.begin(worker(1), 0.0)
    knocks.ended(1)
    assert knocking.made[0].closed
    assert not knocks.made[1]
    assert not knocks.waiting(1)
