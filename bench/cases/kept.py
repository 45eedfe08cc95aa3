"""Kept connections through restarts: with the middleware, without it, and the servers' own ways."""

from __future__ import annotations

from collections.abc import Sequence

from bench.case import Case
from bench.cases.restart import restarts
from bench.harness import Load
from bench.rounds import alternate, chosen
from bench.systems import System, under_segue
from bench.table import LOAD, Column, Row

# A client that never closes would keep an old worker for the 30 s of the default.
DRAIN = ("--drain-timeout", "2")
PEERS = (
    "gunicorn-gthread,uvicorn,hypercorn,granian,nginx-reuseport,nginx-fewer,haproxy,"
    "uvicorn-overlap,uvicorn-socket"
)


def under() -> list[System]:
    """Every server that keeps connections, with the middleware and without."""
    servers = ("uvicorn", "gunicorn-gthread", "hypercorn", "granian")
    with_it = [
        System(
            f"segue run, {name}, Draining",
            under_segue(name, "migrate", *DRAIN, draining=True),
            claims_none=True,
        )
        for name in servers
    ]
    return with_it + [
        System(f"segue run, {name}", under_segue(name, "migrate", *DRAIN)) for name in servers
    ]


def measure(
    *,
    repetitions: int = 3,
    restart: int = 3,
    connections: int = 50,
    interval: float = 0.1,
    pause: float = 0.6,
) -> list[Row]:
    """A request sent on a kept connection and not answered is lost; an idle one closed is not."""
    load = ("--keep-alive", str(connections), "--interval", str(interval))
    return alternate(
        [*chosen(PEERS), *under()],
        repetitions,
        lambda server: restarts(server, Load(server.port, *load), restart, pause),
    )


def notes(_: Sequence[Row]) -> list[str]:
    """What the rows claim."""
    return [
        (
            "Draining is segue.asgi.Draining or segue.wsgi.Draining around the application: the"
            " worker announces the close with its next answer. Without it a request may meet a"
            " close on its way, whoever restarts the server, and no claim is made."
        ),
    ]


CASE = Case(
    "keep-alive",
    "Restart, kept connections",
    "50 connections, a request every 100 ms on each; three restarts a repetition. Closing a"
    " connection while no request is out loses nothing.",
    measure,
    (*LOAD, Column("restart_s", "s a restart", digits=2)),
    notes,
    quick={"restart": 2, "pause": 0.4},
)
