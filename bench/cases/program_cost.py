"""What the policy program costs: connections a second on one core, against the kernel's own hash.

Client and server are one thread, so that nothing but the kernel's work for a connection (the
handshake, the queue, the close) is beside the program: a real server's share is far smaller.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack

from bench.case import Case, Sample, Tally
from bench.harness import free_port
from bench.table import Column, Row
from segue.address import Address
from segue.engine.migrate import Migrate
from segue.linux.sockopt import open_listener

HASH, PROGRAM, SHARED = (
    "two listeners, the kernel's own hash",
    "two listeners, Segue's program",
    "one shared listener",
)
BATCH = 100  # connections between two looks at the listeners
# Closed by RST: nothing is left in TIME_WAIT, of which a minute's worth would fill the ports.
_AT_ONCE = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")


def measure(*, rounds: int = 120, connections: int = 1000) -> list[Row]:
    """Every round has a slice of each kind, in turning order."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    tally = Tally()
    for name in (HASH, PROGRAM, SHARED):
        tally.expect(name)
    with ExitStack() as stack:
        groups = {}
        for name, number in ((HASH, 2), (PROGRAM, 2), (SHARED, 1)):
            address = Address("127.0.0.1", free_port())
            groups[name] = [
                stack.enter_context(open_listener(address, backlog=1024)) for _ in range(number)
            ]
            for listener in groups[name]:
                listener.setblocking(False)
        engine = stack.enter_context(Migrate())
        for slot, listener in enumerate(groups[PROGRAM]):
            engine.join(slot, listener)
        engine.share(dict.fromkeys(range(len(groups[PROGRAM])), 1.0))
        names = list(groups)
        for name in names:
            _rate(groups[name], connections)  # the first slice warms up
        for number in range(rounds):
            turn = number % len(names)
            rates = {name: _rate(groups[name], connections) for name in names[turn:] + names[:turn]}
            for name, rate in rates.items():
                measures = {"rate": rate, "us": 1e6 / rate, "ratio": rate / rates[HASH]}
                tally.add(name, Sample(measures, {}))
        selected = sum(one.new for one in engine.counts().values())
        if selected < rounds * connections:
            raise RuntimeError(f"the program selected for {selected} connections only")
    return tally.rows()


def _rate(listeners: list[socket.socket], connections: int) -> float:
    """Connections a second: opened, accepted, closed."""
    where = listeners[0].getsockname()
    begun = time.perf_counter()
    for _ in range(connections // BATCH):
        opened = []
        for _ in range(BATCH):
            client = socket.socket()
            client.connect(where)
            opened.append(client)
        accepted = []
        for listener in listeners:
            try:
                while True:
                    accepted.append(listener.accept()[0])
            except BlockingIOError:
                pass
        for one in opened:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            one.close()
        for one in accepted:
            one.close()
        if len(accepted) != BATCH:
            raise RuntimeError(f"{BATCH} were opened and {len(accepted)} accepted")
    return connections / (time.perf_counter() - begun)


CASE = Case(
    "program-cost",
    "What the policy program costs",
    "Connections opened, accepted and closed by one thread on one core; 120 rounds, in each of"
    " which every kind has a slice of 1,000. The ratio is to the kernel's own hash in the same"
    " round.",
    measure,
    (
        Column("rate", "connections/s", digits=0),
        Column("us", "us each", digits=2),
        Column("ratio", "ratio", digits=3),
    ),
    lambda _: [
        "Nothing but the connection itself is served here, so the program's part is at its largest."
    ],
    quick={"rounds": 10},
)
