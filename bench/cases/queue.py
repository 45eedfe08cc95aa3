"""What it costs to close a listener with 8,000 connections in its queue: migrated, or reset."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, suppress

from bench.case import Case, Sample, Tally
from bench.harness import free_port
from bench.rounds import told
from bench.table import Column, Row
from segue.address import Address
from segue.engine.migrate import Migrate
from segue.engine.select import SYSCTL
from segue.linux import sysctl
from segue.linux.sockopt import open_listener
from segue.probe.session import allow_descriptors

PROGRAM, HASH, RESET = "migrated by Segue's program", "migrated by the kernel's hash", "reset"
_AT_ONCE = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")


def measure(*, repetitions: int = 5, queue: int = 8000) -> list[Row]:
    """The time that close() takes, with a sibling that could take them."""
    allow_descriptors(2 * queue + 1000)
    backlog = 2 * queue
    sysctl.write("net.core.somaxconn", str(backlog))
    tally = Tally()
    names = [PROGRAM, HASH, RESET]
    for name in names:
        tally.expect(name)
    for number in range(repetitions):
        for name in names if number % 2 == 0 else reversed(names):
            sysctl.write(SYSCTL, "1" if name == HASH else "0")
            sample = _close_full(queue, backlog, by_program=name == PROGRAM)
            told(name, sample)
            tally.add(name, sample)
    return tally.rows()


def _close_full(queue: int, backlog: int, *, by_program: bool) -> Sample:
    address = Address("127.0.0.1", free_port())
    with ExitStack() as stack:
        closing = stack.enter_context(open_listener(address, backlog=backlog))
        engine = stack.enter_context(Migrate()) if by_program else None
        if engine is not None:
            engine.join(0, closing)
            engine.share({0: 1.0})
        clients = []
        for _ in range(queue):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            one.connect((address.host, address.port))
            clients.append(one)
        # The sibling opens only now, so that all of them wait at the listener that closes.
        sibling = stack.enter_context(open_listener(address, backlog=backlog))
        sibling.setblocking(False)
        if engine is not None:
            engine.join(1, sibling)
            engine.share({1: 1.0})
        begun = time.perf_counter()
        closing.close()
        took = time.perf_counter() - begun
        kept = 0
        with suppress(BlockingIOError):
            while True:
                sibling.accept()[0].close()
                kept += 1
        return Sample({"us": took / queue * 1e6, "ms": took * 1e3, "kept": kept}, {})


CASE = Case(
    "queue",
    "Closing a listener with 8,000 connections in its queue",
    "How long close() takes, with another listener at the same address; five repetitions, in"
    " turns. *Kept* counts those that the other listener then accepted, of all repetitions.",
    measure,
    (
        Column("us", "us a connection", digits=2),
        Column("ms", "ms", digits=1),
        Column("kept", "kept", "sum", 0),
    ),
)
