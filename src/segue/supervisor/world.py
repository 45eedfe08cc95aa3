"""What the supervisor needs of the operating system, as one record.

The real one is ``World()``.  A test passes its own functions and patches no module.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from segue.engine.carry import Carrier
from segue.engine.carry_sockets import Sockets
from segue.engine.drain import Drain
from segue.engine.hash import Hash
from segue.engine.migrate import Migrate
from segue.engine.programs import ProgramChoice
from segue.engine.select import EngineChoice, choose
from segue.engine.steering import Steering
from segue.linux.sockopt import open_listener
from segue.observe.snapshot import Observer
from segue.supervisor.loop import Loop
from segue.supervisor.workers.spawn import Spawning, reap, spawn


def steering(engine: str, program_choice: ProgramChoice) -> Steering:
    """A new steering of this engine for one address, by the chosen program if there is one."""
    if program_choice:
        return program_choice.steering()
    kinds: dict[str, Callable[[], Steering]] = {"migrate": Migrate, "hash": Hash, "drain": Drain}
    return kinds[engine]()


def restore(engine: str, program_choice: ProgramChoice, descriptors: dict[str, int]) -> Steering:
    """The steering that a predecessor in this process had, from its descriptors.

    If there are no descriptors, or if a chosen program selects from now on, it is a new steering,
    which every listener must join again.  The chosen program is read again.
    """
    if descriptors and not program_choice:
        return Migrate.restore(descriptors)
    for descriptor in descriptors.values():
        os.close(descriptor)
    return steering(engine, program_choice)


@dataclass(frozen=True, slots=True)
class World:
    """The functions of the system that have effects or whose results change."""

    now: Callable[[], float] = time.monotonic
    clock: Callable[[], float] = time.time  # the seconds since 1970
    spawn: Spawning = spawn
    reap: Callable[[], list[tuple[int, int]]] = reap
    choose: Callable[[str], EngineChoice] = choose
    steering: Callable[[str, ProgramChoice], Steering] = steering
    restore: Callable[[str, ProgramChoice, dict[str, int]], Steering] = restore
    observer: Callable[[], Observer] = Observer
    listen: Callable[..., socket.socket] = open_listener
    loop: Callable[[Callable[[str], None], Callable[[], float]], Loop] = Loop
    carrier: Callable[[], Carrier] = Carrier
    sockets: Callable[[], Sockets] = Sockets
