"""A thousand rescue cycles, shutdown() and listen() beside siblings, under a storm."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Sequence

from bench.case import Case, Sample, Tally
from bench.harness import Load, Server, free_port, wait_until
from bench.resets import Resets
from bench.rounds import seen, take_turns
from bench.systems import LOCAL, System, overlapping
from bench.table import LOAD, Column, Row
from bench.ways import BACKLOG, inheriting
from segue.address import Address
from segue.engine.cycle import cycle
from segue.engine.migrate import Migrate
from segue.linux.sockopt import open_listener
from segue.observe.counters import Counters
from segue.observe.snapshot import Observer

_WORKERS = 3
FIRST = "its share to zero, then the cycle"
WITH = "the cycle alone, its share kept"


def measure(*, repetitions: int = 1, cycles: int = 1000, clients: int = 32) -> list[Row]:
    """The listener cycled is the first of three; its worker is well and accepts all the while."""

    def once(system: System, _: Tally) -> Sample:
        with contextlib.ExitStack() as stack:
            return _storm(stack, cycles, clients, first=system.name == FIRST)

    idle = overlapping([])  # never started: the systems differ in what is done to them
    return take_turns(
        [System(FIRST, idle, claims_none=True), System(WITH, idle)], repetitions, once
    )


def _storm(stack: contextlib.ExitStack, cycles: int, clients: int, *, first: bool) -> Sample:
    address = Address(LOCAL, free_port())
    steering, observer = stack.enter_context(Migrate()), stack.enter_context(Observer())
    listeners: list[socket.socket] = []
    servers: list[Server] = []
    for slot in range(_WORKERS):
        listeners.append(stack.enter_context(open_listener(address, backlog=BACKLOG)))
        steering.join(slot, listeners[slot])
        argv = [sys.executable, "-m", "examples.asyncio_server"]
        servers.append(inheriting(listeners[slot], argv, LOCAL, address.port))
        stack.callback(servers[slot].stop)
    everyone = dict.fromkeys(range(_WORKERS), 1.0)
    for slot, server in enumerate(servers):
        # One after the other has all of the traffic, so each has answered before the storm.
        steering.share({slot: 1.0})
        server.wait_serving()
    steering.share(everyone)
    before, moved = Counters.read(), 0
    resets = stack.enter_context(Resets(address.port))
    load = Load(address.port, "--concurrency", str(clients))
    try:
        for _ in range(cycles):
            if first:
                steering.share({0: 0.0, 1: 1.0, 2: 1.0})
            moved += cycle(listeners[0], [servers[0].process.pid], observer, address).moved
            steering.rejoin(0, listeners[0])
            if first:
                steering.share(everyone)
            resets.read()
    finally:
        result = load.stop()
    wait_until(lambda: not any(observer.queued(address).values()), 10.0, "empty queues")
    lost = Counters.read() - before
    reasons = resets.read()
    print(f"    resets from the port, by reason: {dict(reasons)}; {lost}", flush=True)
    harmed = len(servers[0].log().splitlines())
    return seen(
        result,
        cycles=cycles,
        moved=moved,
        not_migrated=lost.not_migrated,
        traced=sum(reasons.values()),
        harmed=harmed,
    )


def notes(rows: Sequence[Row]) -> list[str]:
    """What the columns say."""
    del rows
    return [
        (
            "`not migrated` is TCPMigrateReqFailure, `resets` what the tracepoint tcp_send_reset"
            " saw of the port, and `harmed` lines that the cycled worker printed."
        ),
        "After the storm every accept queue is empty: nothing is left behind.",
    ]


CASE = Case(
    "cycles",
    "A thousand cycles of one listener under a storm of connections",
    "32 clients in a closed loop, a new connection for each request, three workers; one listener"
    " is shut down and listens again, as fast as can be.",
    measure,
    (
        Column("cycles", "cycles", "sum", 0),
        Column("moved", "moved", "sum", 0),
        *LOAD,
        Column("not_migrated", "not migrated", "sum", 0),
        Column("traced", "resets", "sum", 0),
        Column("harmed", "harmed", "sum", 0),
    ),
    notes,
    quick={"cycles": 200},
)
