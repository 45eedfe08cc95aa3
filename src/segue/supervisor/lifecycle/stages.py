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


class WorkerInput(Enum):
    """What can happen to a worker."""

    READY = auto()
    SHARE = auto()
    UNSHARE = auto()
    STOP = auto()
    KILL = auto()
    EXIT = auto()


WORKER: Mapping[tuple[Stage, WorkerInput], Stage] = {
    (Stage.STARTING, WorkerInput.READY): Stage.STANDBY,
    (Stage.STARTING, WorkerInput.STOP): Stage.STOPPING,
    (Stage.STARTING, WorkerInput.EXIT): Stage.GONE,
    (Stage.STANDBY, WorkerInput.SHARE): Stage.SERVING,
    # An finisher is ready, and only finishes what a dead worker's listener still holds.
    (Stage.STANDBY, WorkerInput.UNSHARE): Stage.DRAINING,
    (Stage.STANDBY, WorkerInput.STOP): Stage.STOPPING,
    (Stage.STANDBY, WorkerInput.EXIT): Stage.GONE,
    (Stage.SERVING, WorkerInput.UNSHARE): Stage.DRAINING,
    (Stage.SERVING, WorkerInput.STOP): Stage.STOPPING,
    (Stage.SERVING, WorkerInput.EXIT): Stage.GONE,
    # The way back: a rollback, or a worker that was one too many and is needed again.
    (Stage.DRAINING, WorkerInput.SHARE): Stage.SERVING,
    (Stage.DRAINING, WorkerInput.STOP): Stage.STOPPING,
    (Stage.DRAINING, WorkerInput.EXIT): Stage.GONE,
    (Stage.STOPPING, WorkerInput.KILL): Stage.KILLED,
    (Stage.STOPPING, WorkerInput.EXIT): Stage.GONE,
    (Stage.KILLED, WorkerInput.EXIT): Stage.GONE,
}


class Phase(Enum):
    """Where an instance stands."""

    STARTING = auto()  # the first generation is not ready yet
    SERVING = auto()  # one generation works; older ones may still drain
    RENEWING = auto()  # newcomers are starting beside the working generation
    CANARY = auto()  # newcomers have a part of new connections, until promoted
    STOPPING = auto()
    ENDED = auto()


class InstanceInput(Enum):
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


INSTANCE: Mapping[tuple[Phase, InstanceInput], Phase] = {
    (Phase.STARTING, InstanceInput.READY): Phase.SERVING,
    (Phase.STARTING, InstanceInput.FAILED): Phase.STOPPING,
    (Phase.STARTING, InstanceInput.STOP): Phase.STOPPING,
    (Phase.SERVING, InstanceInput.RESTART): Phase.RENEWING,
    (Phase.SERVING, InstanceInput.ROLLBACK): Phase.SERVING,
    (Phase.SERVING, InstanceInput.SCALE): Phase.SERVING,
    (Phase.SERVING, InstanceInput.FAILED): Phase.STOPPING,  # the crash-loop limit
    (Phase.SERVING, InstanceInput.STOP): Phase.STOPPING,
    (Phase.RENEWING, InstanceInput.RESTART): Phase.RENEWING,
    (Phase.RENEWING, InstanceInput.READY): Phase.SERVING,
    (Phase.RENEWING, InstanceInput.CANARY): Phase.CANARY,
    (Phase.RENEWING, InstanceInput.ROLLBACK): Phase.SERVING,
    (Phase.RENEWING, InstanceInput.FAILED): Phase.SERVING,
    (Phase.RENEWING, InstanceInput.STOP): Phase.STOPPING,
    (Phase.CANARY, InstanceInput.RESTART): Phase.RENEWING,
    (Phase.CANARY, InstanceInput.PROMOTE): Phase.SERVING,
    (Phase.CANARY, InstanceInput.ROLLBACK): Phase.SERVING,
    (Phase.CANARY, InstanceInput.FAILED): Phase.SERVING,
    (Phase.CANARY, InstanceInput.STOP): Phase.STOPPING,
    (Phase.STOPPING, InstanceInput.STOP): Phase.STOPPING,
    (Phase.STOPPING, InstanceInput.EMPTY): Phase.ENDED,
}

State = TypeVar("State", bound=Enum)
Given = TypeVar("Given", bound=Enum)


def step(table: Mapping[tuple[State, Given], State], who: str, state: State, given: Given) -> State:
    """The state after ``given``.  Raises IllegalInput, naming what would be legal."""
    try:
        return table[state, given]
    except KeyError:
        legal = [one.name for (start, one) in table if start is state]
        raise IllegalInput(who, state.name, given.name, legal) from None
