"""What a carry costs: connections a second, the owner's pause, and packets that clients see."""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.case import Case, Sample
from bench.harness import Server, wait_until
from bench.rounds import take_turns
from bench.table import Column, Row
from bench.ways import inheriting
from segue.address import Address
from segue.engine.carry import Carrier
from segue.engine.carry_wish import Report, Wish
from segue.engine.migrate import Migrate
from segue.lab.link import Conditions
from segue.lab.scenario import SERVER, Scenario, distance
from segue.linux import pidfd, ptrace
from segue.linux.sock_diag import SockDiag
from segue.linux.sockopt import open_listener
from segue.observe.carrying import Refusal
from segue.probe.session import allow_descriptors

_PORT = 8080
_LIMIT_S = 60.0
_REQUEST = b"GET /0 HTTP/1.1\r\nHost: x\r\n\r\n"
_SPARE = 1000  # descriptors


@dataclass(frozen=True, slots=True)
class Amount:
    """So many connections; ``watched``: accepted with the filter that holds."""

    connections: int
    watched: bool
    claims_none = True

    @property
    def name(self) -> str:
        """In the table."""
        how = "inherited" if self.watched else "attached for each"
        return f"{self.connections:,} connections, filter {how}"


@dataclass(slots=True)
class _Pauses:
    """How long owners were stopped, from the call that stops them, and once all stood still."""

    seconds: list[float] = field(default_factory=list)
    still: list[float] = field(default_factory=list)

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Inside the block they are noted."""
        plain = ptrace.stopped

        @contextlib.contextmanager
        def stopped(pids: Collection[int]) -> Iterator[bool]:
            begun = time.monotonic()
            try:
                with plain(pids) as all_stopped:
                    stood = time.monotonic()
                    yield all_stopped
            finally:
                ended = time.monotonic()
                self.seconds.append(ended - begun)
                self.still.append(ended - stood)

        setattr(ptrace, "stopped", stopped)  # noqa: B010 - mypy knows it as a function
        try:
            yield
        finally:
            setattr(ptrace, "stopped", plain)  # noqa: B010


def measure(*, repetitions: int = 3, most: int = 10_000, together: int = 64) -> list[Row]:
    """100, 1,000 and 10,000 connections, up to ``most``; so many are asked for at once."""
    allow_descriptors(2 * most + _SPARE)
    amounts = [
        Amount(number, watched)
        for number in (100, 1000, 10_000)
        if number <= most
        for watched in (True, False)
    ]
    return take_turns(amounts, repetitions, lambda one, _: _carried(one, together))


def _carried(amount: Amount, together: int) -> Sample:
    with distance(Conditions()) as lab, lab.server.inside(), ExitStack() as stack:
        listeners = [
            stack.enter_context(open_listener(Address(SERVER, _PORT), backlog=4096))
            for _ in range(2)
        ]
        carrier = stack.enter_context(Carrier())
        if amount.watched:
            for one in listeners:
                carrier.watch(one)
        steering = Migrate()
        stack.callback(steering.close)
        servers = []
        for slot, one in enumerate(listeners):
            steering.join(slot, one)
            argv = [sys.executable, "-m", "bench.keeping_server"]
            servers.append(inheriting(one, argv, SERVER, _PORT))
            stack.callback(servers[-1].stop)
        steering.share({0: 1.0})
        clients = _clients(stack, lab, amount.connections)
        steering.share({1: 1.0})
        kept = _kept(servers[0], amount.connections)
        _, before = lab.cable.counts()
        pauses = _Pauses()
        begun = time.monotonic()
        with pauses.timed():
            lost = _all_carried(carrier, kept, listeners[1], servers[0], together)
        took = time.monotonic() - begun
        _, after = lab.cable.counts()
        answered = sum(_asked(one) for one in clients)
        measures = {
            "attempts": float(amount.connections),
            "lost": float(lost + amount.connections - answered),
            "per_s": amount.connections / took,
            "pause_ms": max(pauses.seconds) * 1000,
            "median_ms": statistics.median(pauses.seconds) * 1000,
            "still_ms": max(pauses.still) * 1000,
            "packets": float(after.sent - before.sent),
        }
        return Sample(measures, {})


def _clients(stack: ExitStack, lab: Scenario, number: int) -> list[socket.socket]:
    clients = []
    for _ in range(number):
        with lab.client.inside():
            one = stack.enter_context(socket.create_connection((SERVER, _PORT), timeout=_LIMIT_S))
        one.sendall(_REQUEST)
        clients.append(one)
    for one in clients:
        one.recv(4096)
    return clients


def _asked(one: socket.socket) -> bool:
    try:
        one.sendall(_REQUEST)
        return bool(one.recv(4096))
    except OSError:
        return False


def _kept(server: Server, number: int) -> list[int]:
    """The server's connections by its descriptors, once their answers are acknowledged."""
    with SockDiag() as diag:

        def idle() -> set[int]:
            there = diag.connections(_PORT, socket.AF_INET)
            return {one.inode for one in there if one.inode and not one.wqueue}

        wait_until(lambda: len(idle()) == number, _LIMIT_S, "acknowledgements")
        wanted = {f"socket:[{inode}]" for inode in idle()}
    where = f"/proc/{server.process.pid}/fd"
    return [int(name) for name in os.listdir(where) if os.readlink(f"{where}/{name}") in wanted]


def _all_carried(
    carrier: Carrier, left: list[int], target: socket.socket, owner: Server, together: int
) -> int:
    """How many are lost.  Raises TimeoutError when some are left alone for ever."""
    lost, limit = 0, time.monotonic() + _LIMIT_S
    reports: list[Report] = []
    with pidfd.opened(owner.process.pid) as process:
        while left:
            if time.monotonic() > limit:
                raise TimeoutError(f"{len(left)} connections were not carried; {reports[0]}")
            with ExitStack() as stack:
                wishes = {}
                for number in left[:together]:
                    made = socket.socket(fileno=pidfd.getfd(process, number))
                    wishes[Wish(stack.enter_context(made))] = number
                reports = carrier.batch(list(wishes), [target], [owner.process.pid])
                while carrier.due is not None:
                    reports += carrier.settle()
            again = [wishes[one.wish] for one in reports if one.refused is not None]
            lost += len(wishes) - len(again) - sum(one.carried for one in reports)
            left = [*left[together:], *again]
            if all(one.refused is Refusal.TARGET_FULL for one in reports):
                time.sleep(0.001)
    return lost


def notes(_: Sequence[Row]) -> list[str]:
    """What is counted."""
    return [
        (
            "The owner's pause is from the call that stops it until it goes on, the longest of all"
            " batches and their median. It may have to wait for a processor before it stops; its"
            " standstill is from then on. Packets to clients are all that the server's host sent in"
            " that time."
        ),
    ]


CASE = Case(
    "carry-speed",
    "What a carry costs",
    "Connections of clients on another host go from one process to another, 64 asked for at once,"
    " the owner stopped for 2 ms a batch or for one connection.",
    measure,
    (
        Column("attempts", "connections", "sum", 0),
        Column("lost", "lost", digits=0),
        Column("per_s", "carries a second", digits=0),
        Column("pause_ms", "longest pause ms"),
        Column("median_ms", "median pause ms"),
        Column("still_ms", "longest standstill ms"),
        Column("packets", "packets to clients", "sum", 0),
    ),
    notes,
    quick={"most": 1000},
)
