"""Proofs of readiness in a run whose kernel refuses pins."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from tests.supervisor.run.doubles import Run, Simulated
from tests.waiting import PATIENCE

from segue.observe.snapshot import Observer


@pytest.fixture
def starting(simulated: Simulated, begin: Callable[..., Run]) -> Run:
    """One worker whose readiness is proven by a connection."""
    simulated.observer = Observer
    run = begin(workers=1, ready="accept")
    run.round()
    return run


def accepted(run: Run) -> socket.socket:
    """The worker accepts the connection that waits."""
    listener = run.service.fronts[0].sockets[run.worker(1).listeners[0].slot]
    listener.settimeout(PATIENCE)
    return listener.accept()[0]


def test_a_worker_that_accepts_is_ready(starting: Run) -> None:
    """The connection's port is pinned to its listener before, and not afterwards."""
    steering = starting.simulated.steerings[0]
    assert "pin" in starting.simulated.refusals.asked
    with accepted(starting):
        starting.round(0.01)
        starting.round(0.01)
    assert starting.stages == {1: "SERVING"}
    assert not steering.pins


@pytest.mark.parametrize("migrates", [True, False])
def test_a_dead_worker_leaves_a_question_that_it_has_not_accepted(
    simulated: Simulated, begin: Callable[..., Run], *, migrates: bool
) -> None:
    """Where nothing migrates it counts with the clients that wait, until it is accepted."""
    simulated.observer, simulated.migrates = Observer, migrates
    run = begin(workers=1, ready="accept")
    run.round()
    readiness = run.service.processes.by_worker[1].readiness
    assert readiness.left() == (not migrates)
    accepted(run).close()
    assert readiness.left() == 0


def test_a_pin_that_is_refused_is_tried_again(
    simulated: Simulated, begin: Callable[..., Run]
) -> None:
    """Nothing is left open of the knock that could not be made."""
    simulated.observer = Observer
    run = begin(workers=1, ready="accept")
    run.refuse("pin")
    for _ in range(3):
        run.round(0.01)
    assert run.stages == {1: "STARTING"}
    run.give()
    run.round(0.01)
    with accepted(run):
        run.round(0.01)
        run.round(0.01)
    assert run.stages == {1: "SERVING"}


def test_a_pin_that_stays_does_not_hide_the_end_of_a_worker(
    simulated: Simulated, begin: Callable[..., Run]
) -> None:
    """What was the dead worker's is closed, whether the kernel forgets the pin or not."""
    simulated.observer = Observer
    run = begin(workers=1, ready="accept")
    run.refuse("unpin")
    run.round()
    run.end(1, 1)
    assert run.stages == {}
    assert not run.service.processes.by_worker
    assert run.service.exit_code == 3
