"""Servers restarted their own way under load, as they are and under ``segue attach``."""

from __future__ import annotations

from dataclasses import replace

from bench.attached import Attached
from bench.case import Case, Sample, Tally
from bench.cases.restart import COLUMNS, restarts
from bench.harness import Load, free_port
from bench.rounds import chosen, take_turns
from bench.systems import LOCAL, System
from bench.table import Row

WAYS = "asyncio-overlap,granian,gunicorn-sync-reuse,nginx-fewer"
UNDER = "segue attach, "
# Its own restart drops some connections that it has accepted, which nobody can give back.
DROPS = "granian"


def measure(
    *, repetitions: int = 3, restart: int = 4, clients: int = 32, pause: float = 0.6,
    systems: str = WAYS,
) -> list[Row]:  # fmt: skip
    """A closed loop that keeps the listeners' queues filled."""
    compared: list[System] = []
    for one in chosen(systems):
        finishes = not one.name.startswith(DROPS)
        compared += [one, replace(one, name=f"{UNDER}{one.name}", claims_none=finishes)]

    def once(system: System, tally: Tally) -> Sample:
        server = system.start(LOCAL, free_port())
        tally.expect(system.name, command=server.shown, claims_none=system.claims_none)
        with server:
            load = ("--concurrency", str(clients))
            if not system.name.startswith(UNDER):
                return restarts(server, Load(server.port, *load), restart, pause)
            with Attached(server.port, "--together", "0"):
                return restarts(server, Load(server.port, *load), restart, pause)

    return take_turns(compared, repetitions, once)


CASE = Case(
    "attach",
    "Restarts that Segue does not make",
    "Servers restarted their own way: side by side by SO_REUSEPORT, by SIGHUP, by a reload. As they"
    " are, and with segue attach beside them; 32 clients in a closed loop, a new connection for"
    " each request, four restarts a repetition.",
    measure,
    COLUMNS,
    lambda _: [
        (
            "What a server has accepted is its own business: granian's restart ends some of those"
            " without an answer (eof), attached to or not."
        )
    ],
    quick={"restart": 2},
)
