"""Connections of which only a duplicate is left, when what would carry them fails."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, cast

import pytest

from segue.errors import KernelError
from segue.observe.carrying import Refusal
from segue.observe.orphans import Fate
from segue.supervisor.front import Front
from segue.supervisor.loop import Loop
from segue.supervisor.workers.carrying import Account, Carrying
from segue.supervisor.workers.orphans import PATIENCE, Event, Orphan, Orphans


class Failing:
    """What carries: every call ends with this error."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.account = Account()

    def _fail(self, *_: object) -> Any:
        raise self.error

    carry_orphans: Callable[..., Any] = _fail
    judge: Callable[..., Any] = _fail


class Place:
    """An address at which nobody listens."""

    def takers(self) -> list[socket.socket]:
        """Nobody."""
        return []


@pytest.fixture(
    params=[KernelError("bpf", errno.EPERM, "looking"), OSError(errno.EBADF, "closed")],
    ids=["ours", "the system's"],
)
def failing(request: pytest.FixtureRequest) -> Iterator[tuple[Orphans, list[float], list[str]]]:
    """Those of an instance, the time there, and what was said."""
    now, said = [0.0], list[str]()
    with closing(Loop(said.append)) as loop:
        carrying = cast("Carrying", Failing(request.param))
        those = Orphans(carrying, loop, lambda: now[0], said.append)
        yield those, now, said
        those.close()


def orphan(event: Event) -> Orphan:
    """One, with ten seconds left."""
    front = cast("Front", Place())
    return Orphan(socket.socket(), front, None, PATIENCE, event, Refusal.NO_TARGET)


def test_none_is_forgotten_that_could_not_be_carried(
    failing: tuple[Orphans, list[float], list[str]],
) -> None:
    """It is tried again, and ended at its limit, with its reason."""
    those, now, said = failing
    event = Event("worker 1")
    one = orphan(event)
    those.add(one, Fate.CARRY)
    for now[0] in (1.0, PATIENCE + 1):
        with pytest.raises((KernelError, OSError)):
            those.step()
    assert not len(those)
    assert one.connection.fileno() == -1
    assert said == [f"of the connections of worker 1 1 left alone: {Refusal.KERNEL.value}"]


def test_none_is_forgotten_that_could_not_be_judged(
    failing: tuple[Orphans, list[float], list[str]],
) -> None:
    """It ends, as it would have without us."""
    those, now, said = failing
    one = orphan(Event("worker 1"))
    those.add(one, Fate.WAIT)
    now[0] = 1.0
    with pytest.raises((KernelError, OSError)):
        those.step()
    assert not len(those)
    assert one.connection.fileno() == -1
    assert said == [f"of the connections of worker 1 1 left alone: {Refusal.KERNEL.value}"]
