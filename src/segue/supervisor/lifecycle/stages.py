"""The lifecycles of a worker and of an instance, as tables.

House rules:
    1. Everything that decides which step is legal is in this file.
    2. An input without a row raises IllegalInput and changes nothing.
    3. When a step is due is the plan's business (plan.py); what it does, the runner's.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import TypeVar

from segue.errors import IllegalInput


class Stage(Enum):
    """Where a worker stands."""

    STARTING = auto()  # spawned, not ready
    STANDBY = auto()  # ready, its listeners have no share
    SERVING = auto()  # its listeners have a share of new connections
    DRAINING = auto()  # no new connections; finishes what it holds
    STOPPING = auto()  # has its stop signal
    KILLED = auto()  # has SIGKILL
    GONE = auto()


class Turn(Enum):
    """What can happen to a worker."""

    READY = auto()
    SHARE = auto()
    UNSHARE = auto()
    STOP = auto()
    KILL = auto()
    EXIT = auto()


WORKER: Mapping[tuple[Stage, Turn], Stage] = {
    (Stage.STARTING, Turn.READY): Stage.STANDBY,
    (Stage.STARTING, Turn.STOP): Stage.STOPPING,
    (Stage.STARTING, Turn.EXIT): Stage.GONE,
    (Stage.STANDBY, Turn.SHARE): Stage.SERVING,
    # An heir is ready, and only finishes what a dead worker's listener still holds.
    (Stage.STANDBY, Turn.UNSHARE): Stage.DRAINING,
    (Stage.STANDBY, Turn.STOP): Stage.STOPPING,
    (Stage.STANDBY, Turn.EXIT): Stage.GONE,
    (Stage.SERVING, Turn.UNSHARE): Stage.DRAINING,
    (Stage.SERVING, Turn.STOP): Stage.STOPPING,
    (Stage.SERVING, Turn.EXIT): Stage.GONE,
    # The way back: a rollback, or a worker that was one too many and is needed again.
    (Stage.DRAINING, Turn.SHARE): Stage.SERVING,
    (Stage.DRAINING, Turn.STOP): Stage.STOPPING,
    (Stage.DRAINING, Turn.EXIT): Stage.GONE,
    (Stage.STOPPING, Turn.KILL): Stage.KILLED,
    (Stage.STOPPING, Turn.EXIT): Stage.GONE,
    (Stage.KILLED, Turn.EXIT): Stage.GONE,
}


class Phase(Enum):
    """Where an instance stands."""

    STARTING = auto()  # the first generation is not ready yet
    SERVING = auto()  # one generation works; older ones may still drain
    RENEWING = auto()  # newcomers are starting beside the working generation
    CANARY = auto()  # newcomers have a part of new connections, until promoted
    STOPPING = auto()
    ENDED = auto()


class Order(Enum):
    """What can happen to an instance."""

    RESTART = auto()
    READY = auto()  # every newcomer is ready
    CANARY = auto()  # every newcomer is ready, and shall have a part only
    PROMOTE = auto()
    ROLLBACK = auto()
    FAILED = auto()  # a newcomer died or was not ready in time
    SCALE = auto()
    STOP = auto()
    EMPTY = auto()  # the last worker is gone


INSTANCE: Mapping[tuple[Phase, Order], Phase] = {
    (Phase.STARTING, Order.READY): Phase.SERVING,
    (Phase.STARTING, Order.FAILED): Phase.STOPPING,
    (Phase.STARTING, Order.STOP): Phase.STOPPING,
    (Phase.SERVING, Order.RESTART): Phase.RENEWING,
    (Phase.SERVING, Order.ROLLBACK): Phase.SERVING,
    (Phase.SERVING, Order.SCALE): Phase.SERVING,
    (Phase.SERVING, Order.FAILED): Phase.STOPPING,  # the crash-loop limit
    (Phase.SERVING, Order.STOP): Phase.STOPPING,
    (Phase.RENEWING, Order.RESTART): Phase.RENEWING,
    (Phase.RENEWING, Order.READY): Phase.SERVING,
    (Phase.RENEWING, Order.CANARY): Phase.CANARY,
    (Phase.RENEWING, Order.ROLLBACK): Phase.SERVING,
    (Phase.RENEWING, Order.FAILED): Phase.SERVING,
    (Phase.RENEWING, Order.STOP): Phase.STOPPING,
    (Phase.CANARY, Order.RESTART): Phase.RENEWING,
    (Phase.CANARY, Order.PROMOTE): Phase.SERVING,
    (Phase.CANARY, Order.ROLLBACK): Phase.SERVING,
    (Phase.CANARY, Order.FAILED): Phase.SERVING,
    (Phase.CANARY, Order.STOP): Phase.STOPPING,
    (Phase.STOPPING, Order.STOP): Phase.STOPPING,
    (Phase.STOPPING, Order.EMPTY): Phase.ENDED,
}

State = TypeVar("State", bound=Enum)
Given = TypeVar("Given", bound=Enum)


def step(table: Mapping[tuple[State, Given], State], who: str, state: State, given: Given) -> State:
    """The state after ``given``.  Raises IllegalInput, naming what would be legal."""
    try:
        return table[state, given]
    except KeyError:
        legal = [turn.name for (start, turn) in table if start is state]
        raise IllegalInput(who, state.name, given.name, legal) from None
