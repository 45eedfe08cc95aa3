"""A worker killed at random each second: does anything go but what it had accepted?"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Sequence

from bench.case import Case, Sample
from bench.harness import Load, Segue, program, steady, wait_until
from bench.killing import kill
from bench.resets import Resets
from bench.rounds import alternate, seen
from bench.systems import System, overlapping
from bench.table import LOAD, Column, Row
from bench.ways import Overlapping, Restartable
from segue.address import Address
from segue.observe.counters import Counters
from segue.observe.snapshot import Observer

_WORKERS = 4
# Of a connection that nobody had accepted (segue.probe.kernel.CAUSES).
_NOT_ACCEPTED = frozenset({"NO_SOCKET", "TCP_STATE", "TCP_FLAGS"})


def _uvicorn(fd: str) -> list[str]:
    quiet = ("--no-access-log", "--log-level", "warning")
    return [program("uvicorn"), "examples.slow:app", *quiet, "--fd", fd]


def _under_segue(argv: list[str], host: str, port: int) -> Segue:
    return Segue(argv, port, engine="migrate", workers=_WORKERS, host=host)


SYSTEMS = (
    System(
        f"{_WORKERS} uvicorn, 100 ms a request, SO_REUSEPORT",
        overlapping(_uvicorn("3"), processes=_WORKERS),
    ),
    System(
        f"segue run, {_WORKERS} uvicorn, 100 ms a request",
        lambda host, port: _under_segue(_uvicorn("{fd}"), host, port),
        claims_none=True,
    ),
    System(
        f"segue run, {_WORKERS} asyncio, answers at once",
        lambda host, port: _under_segue(
            [sys.executable, "-m", "examples.asyncio_server"], host, port
        ),
        claims_none=True,
    ),
)


def measure(
    *, repetitions: int = 1, kills: int = 60, rate: int = 300, seed: int = 1, only: str = ""
) -> list[Row]:
    """Systems with ``only`` in their name."""

    def once(server: Restartable) -> Sample:
        chance = random.Random(seed)
        with contextlib.ExitStack() as stack:
            observer = stack.enter_context(Observer())
            resets = stack.enter_context(Resets(server.port))
            before, accepted = Counters.read(), 0
            where = Address(server.host, server.port)
            load = Load(server.port, "--rate", str(rate), "--path", "/slow?ms=100")
            try:
                for _ in range(kills):
                    with steady(1.0):
                        wait_until(lambda: len(server.accepting()) > 1, 20.0, "two workers")
                        victim = chance.choice(sorted(server.accepting()))
                        accepted += kill(victim, where, observer)
                        if isinstance(server, Overlapping):
                            server.replace_dead()
                    resets.read()
            finally:
                result = load.stop()
            reasons = resets.read()
            lost = Counters.read() - before
            return seen(
                result,
                kills=kills,
                accepted=accepted,
                not_accepted=sum(reasons[one] for one in _NOT_ACCEPTED),
                not_migrated=lost.not_migrated,
            )

    return alternate([one for one in SYSTEMS if only in one.name], repetitions, once)


def notes(rows: Sequence[Row]) -> list[str]:
    """How to read it."""
    del rows
    return [
        (
            "`accepted` counts what the victims had accepted and not finished, looked at"
            " between a SIGSTOP and the SIGKILL; `never accepted` are resets of connections that"
            " nobody had accepted (tracepoint tcp_send_reset), and `not migrated` is"
            " TCPMigrateReqFailure."
        ),
        "Where `lost` is `accepted`, nobody lost anything but to the worker that had it.",
    ]


CASE = Case(
    "crash",
    "A worker of four killed at random, each second for a minute",
    "300 new connections a second, an open loop; SIGKILL to one of the four workers.",
    measure,
    (
        Column("kills", "kills", "sum", 0),
        Column("accepted", "accepted", "sum", 0),
        Column("not_accepted", "never accepted", "sum", 0),
        Column("not_migrated", "not migrated", "sum", 0),
        *LOAD,
    ),
    notes,
    quick={"kills": 10},
)
