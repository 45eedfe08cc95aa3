"""The lifecycles of a worker and of an instance, as tables.

House rules:
    1. Everything that decides which step is legal is in this file.
    2. An input without a row raises IllegalInput and changes nothing.
    3. plan.py decides when a step is due, and run/perform.py performs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import TypeVar

from segue.errors import IllegalInput


class Stage(Enum):
    """The stage of a worker."""

    STARTING = auto()  # spawned, not ready
    STANDBY = auto()  # ready, but its listeners have no share
    SERVING = auto()  # its listeners have a share of new connections
    DRAINING = auto()  # no new connections; finishes those that it has
    STOPPING = auto()  # has its stop signal
    KILLED = auto()  # has SIGKILL
    GONE = auto()

    # Enum's own is a Python function, and a restart looks up stages some 5,000 times: 1 ms of its
    # processor time.  Members are compared by identity anyway.
    __hash__ = object.__hash__


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
    # A finisher is ready.  It only finishes the queue of a dead worker's listener.
    (Stage.STANDBY, WorkerInput.UNSHARE): Stage.DRAINING,
    (Stage.STANDBY, WorkerInput.STOP): Stage.STOPPING,
    (Stage.STANDBY, WorkerInput.EXIT): Stage.GONE,
    (Stage.SERVING, WorkerInput.UNSHARE): Stage.DRAINING,
    (Stage.SERVING, WorkerInput.STOP): Stage.STOPPING,
    (Stage.SERVING, WorkerInput.EXIT): Stage.GONE,
    # The way back: a rollback, or a surplus worker that is needed again.
    (Stage.DRAINING, WorkerInput.SHARE): Stage.SERVING,
    (Stage.DRAINING, WorkerInput.STOP): Stage.STOPPING,
    (Stage.DRAINING, WorkerInput.EXIT): Stage.GONE,
    (Stage.STOPPING, WorkerInput.KILL): Stage.KILLED,
    (Stage.STOPPING, WorkerInput.EXIT): Stage.GONE,
    (Stage.KILLED, WorkerInput.EXIT): Stage.GONE,
}


class Phase(Enum):
    """The phase of an instance."""

    STARTING = auto()  # the first generation is not ready yet
    SERVING = auto()  # one generation serves; older ones may still drain
    RENEWING = auto()  # a new generation starts beside the working one
    CANARY = auto()  # the new generation has a part of new connections until it is promoted
    LEAVING = auto()  # told to stop: workers serve on, and tell clients to go
    STOPPING = auto()  # no new connections; workers are told to stop once nobody waits
    ENDED = auto()


class InstanceInput(Enum):
    """What can happen to an instance."""

    RESTART = auto()
    READY = auto()  # the new generation is ready
    CANARY = auto()  # the new generation is ready, and gets only a part
    PROMOTE = auto()
    ROLLBACK = auto()
    FAILED = auto()  # a worker of the new generation died, or was not ready in time
    SCALE = auto()
    STOP = auto()
    REFUSE = auto()  # the time to serve on is over
    EMPTY = auto()  # the last worker is gone


INSTANCE: Mapping[tuple[Phase, InstanceInput], Phase] = {
    (Phase.STARTING, InstanceInput.READY): Phase.SERVING,
    (Phase.STARTING, InstanceInput.FAILED): Phase.LEAVING,
    (Phase.STARTING, InstanceInput.STOP): Phase.LEAVING,
    (Phase.SERVING, InstanceInput.RESTART): Phase.RENEWING,
    (Phase.SERVING, InstanceInput.ROLLBACK): Phase.SERVING,
    (Phase.SERVING, InstanceInput.SCALE): Phase.SERVING,
    (Phase.SERVING, InstanceInput.FAILED): Phase.LEAVING,  # the crash-loop limit
    (Phase.SERVING, InstanceInput.STOP): Phase.LEAVING,
    (Phase.RENEWING, InstanceInput.READY): Phase.SERVING,
    (Phase.RENEWING, InstanceInput.CANARY): Phase.CANARY,
    (Phase.RENEWING, InstanceInput.ROLLBACK): Phase.SERVING,
    (Phase.RENEWING, InstanceInput.FAILED): Phase.SERVING,
    (Phase.RENEWING, InstanceInput.SCALE): Phase.RENEWING,
    (Phase.RENEWING, InstanceInput.STOP): Phase.LEAVING,
    (Phase.CANARY, InstanceInput.PROMOTE): Phase.SERVING,
    (Phase.CANARY, InstanceInput.ROLLBACK): Phase.SERVING,
    (Phase.CANARY, InstanceInput.FAILED): Phase.SERVING,
    (Phase.CANARY, InstanceInput.STOP): Phase.LEAVING,
    (Phase.LEAVING, InstanceInput.FAILED): Phase.LEAVING,  # the crash-loop limit
    (Phase.LEAVING, InstanceInput.REFUSE): Phase.STOPPING,
    (Phase.STOPPING, InstanceInput.EMPTY): Phase.ENDED,
}

State = TypeVar("State", bound=Enum)
Given = TypeVar("Given", bound=Enum)


def step(table: Mapping[tuple[State, Given], State], who: str, state: State, given: Given) -> State:
    """The state after ``given``.  Raises IllegalInput, which names the legal inputs."""
    try:
        return table[state, given]
    except KeyError:
        legal = [one.name for (start, one) in table if start is state]
        raise IllegalInput(who, state.name, given.name, legal) from None
