"""Workers that are replaced after so many requests: by the server itself, and by Segue."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.case import Case, Sample
from bench.harness import Hup, Load, Segue, program, steady
from bench.rounds import alternate, seen
from bench.systems import System
from bench.table import LOAD, Column, Row
from bench.ways import Restartable

_LIVES_S = 8.0  # a worker, at this load
_LOOK_S = 0.5
_IMPORT = "BENCH_IMPORT_S"  # of bench.slow_start
_UVICORN = ("uvicorn", "bench.slow_start:asgi", "--no-access-log", "--log-level", "warning")
_GUNICORN = ("gunicorn", "--no-control-socket", "bench.slow_start:wsgi")


def _systems(limit: int, workers: int, import_s: float) -> list[System]:
    """Those with so many workers, each of which is to be replaced after ``limit`` requests."""
    many, takes = str(workers), f"{import_s:g}"

    def itself(host: str, port: int, *argv: str) -> Restartable:
        return Hup([program(argv[0]), *argv[1:]], port, host=host, env={_IMPORT: takes})

    def under_segue(host: str, port: int, *argv: str, more: tuple[str, ...] = ()) -> Restartable:
        return Segue(
            [program(argv[0]), *argv[1:]],
            port,
            engine="migrate",
            workers=workers,
            more=("--env", f"{_IMPORT}={takes}", *more),
            host=host,
        )

    ours = ("--max-connections", str(limit))
    uvicorns = ("--limit-max-requests", str(limit))
    gunicorns = ("--max-requests", str(limit))
    inherited = ("-b", "fd://{fd}")
    found = [
        System(
            f"{many} gunicorn --max-requests",
            lambda host, port: itself(
                host, port, *_GUNICORN, "-w", many, "-b", f"{host}:{port}", *gunicorns
            ),
        ),
        System(
            f"segue run --max-connections, {many} gunicorn",
            lambda host, port: under_segue(host, port, *_GUNICORN, *inherited, more=ours),
            claims_none=True,
        ),
        System(
            f"segue run, {many} uvicorn --limit-max-requests",
            lambda host, port: under_segue(host, port, *_UVICORN, "--fd", "{fd}", *uvicorns),
        ),
        System(
            f"segue run --max-connections, {many} uvicorn",
            lambda host, port: under_segue(host, port, *_UVICORN, "--fd", "{fd}", more=ours),
            claims_none=True,
        ),
    ]
    if workers > 1:  # one alone is not started again
        alone = System(
            f"uvicorn --workers {many} --limit-max-requests",
            lambda host, port: itself(
                *(host, port, *_UVICORN, "--workers", many),
                *("--host", host, "--port", str(port), *uvicorns),
            ),
        )
        found.insert(2, alone)
    return found


def measure(
    *,
    repetitions: int = 2,
    seconds: float = 30.0,
    rate: int = 50,
    import_s: float = 3.0,
    workers: str = "1,2",
) -> list[Row]:
    """``seconds`` of load for each, in which a worker reaches its limit after 8 s."""

    def once(server: Restartable) -> Sample:
        first = set(server.accepting())
        everyone = set(first)
        load = Load(server.port, "--rate", str(rate))
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                with steady(_LOOK_S):
                    everyone |= set(server.accepting())
        finally:
            result = load.stop()
        return seen(result, replaced=len(everyone - first))

    compared = [
        system
        for many in map(int, workers.split(","))
        for system in _systems(int(_LIVES_S * rate / many), many, import_s)
    ]
    return alternate(compared, repetitions, once)


def notes(rows: Sequence[Row]) -> list[str]:
    """How to read it."""
    del rows
    return [
        (
            "The limit is the number of requests that a worker gets in 8 s. Each request has a"
            " connection of its own, so requests and connections are the same here. `replaced`"
            " counts the worker processes that began to serve under the load."
        )
    ]


CASE = Case(
    "recycle",
    "Workers that are replaced after so many requests",
    "50 new connections a second, an open loop. Importing the application takes 3 s, in which the"
    " processor is free.",
    measure,
    (Column("replaced", "replaced", "sum", 0), *LOAD),
    notes,
    quick={"seconds": 12.0, "import_s": 1.0},
)
