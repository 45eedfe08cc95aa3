"""One worker of two stalls, 1 s of every 3, and clients keep their connections."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Self

from bench.case import Case, Sample
from bench.harness import ROOT, Segue, steady
from bench.keepers import HTTP
from bench.rounds import alternate
from bench.systems import System, nginx_under_segue, under_segue
from bench.table import Column, Row
from bench.thinking import Thoughts
from bench.ways import Restartable
from segue.linux import proc

_ENDS_SECONDS = 30.0


class _Load:
    """``bench.asking`` in a process of its own."""

    def __init__(self, host: str, port: int, clients: int, rate: int) -> None:
        given = [host, str(port), str(clients), str(rate)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.asking", *given],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "connected\n":
            self._process.wait()
            raise RuntimeError("the clients could not connect")

    def stop(self) -> Thoughts:
        """What was found.  Raises TimeoutError when they do not end."""
        try:
            text, _ = self._process.communicate(timeout=_ENDS_SECONDS)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the clients did not end within {_ENDS_SECONDS:g} s") from None
        found = json.loads(text)
        return Thoughts(**found | {"lost": Counter(found["lost"])})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def rows(rescue: str) -> list[System]:
    """What is carried by the application's word, by the kernel's, and not."""
    found = ("--rescue", rescue)
    off, app, http = ("--carry", "off", *found), ("--carry", "app", *found), (*HTTP, *found)
    return [
        System("uvicorn, --carry off", under_segue("uvicorn", "migrate", *off)),
        System(
            "uvicorn with Draining, --carry app",
            under_segue("uvicorn", "migrate", *app, draining=True),
            claims_none=True,
        ),
        System("uvicorn, --carry http", under_segue("uvicorn", "migrate", *http), claims_none=True),
        System("nginx, --carry off", lambda host, port: nginx_under_segue(host, port, *off)),
        System(
            "nginx, --carry http",
            lambda host, port: nginx_under_segue(host, port, *http),
            claims_none=True,
        ),
    ]


def measure(
    *, repetitions: int = 3, stalls: int = 6, clients: int = 100, rate: int = 400,
    rescue: str = "30ms", only: str = "",
) -> list[Row]:  # fmt: skip
    """Each time the worker with the most connections is stopped; ``only`` rows with this in their
    name.
    """

    def once(server: Restartable) -> Sample:
        assert isinstance(server, Segue)
        held = 0
        with _Load(server.host, server.port, clients, rate) as load:
            with steady(2.0):
                pass
            for _ in range(stalls):
                with steady(1.0):
                    pass
                workers = server.status()["workers"]
                victim = max(workers, key=lambda one: one["connections"])
                held += victim["connections"]
                pids = [one for one in server.accepting() if one in proc.tree(victim["pid"])]
                for pid in pids:
                    os.kill(pid, signal.SIGSTOP)
                try:
                    with steady(1.0):
                        pass
                finally:
                    for pid in pids:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGCONT)
                with steady(1.0):
                    pass
            found, status = load.stop(), server.status()
        measures = {
            "attempts": float(found.asked),
            "lost": float(found.lost.total()),
            "reconnected": float(found.reconnected),
            "p50_ms": found.at(0.5),
            "p99_ms": found.at(0.99),
            "p999_ms": found.at(0.999),
            "max_ms": found.at(1.0),
            "stalls": float(sum(one["stalls"] for one in status["workers"])),
            "moved": 100 * status["carried"] / max(1, held),
        }
        return Sample(measures, dict(found.lost))

    return alternate([one for one in rows(rescue) if only in one.name], repetitions, once)


def notes(found: Sequence[Row]) -> list[str]:
    """How to read it."""
    del found
    return [
        (
            "The worker that is stopped is the one that has the most connections, so that each"
            " stall but the first meets all of them where they are carried. Moved: of the"
            " connections that it had at the beginning of each stall."
        ),
        "Latency counts from when a request was due, also where its connection was not free.",
    ]


CASE = Case(
    "stall-kept",
    "One worker stalled 1 s of every 3, kept connections",
    "400 requests a second on 100 connections that are kept, an open loop; one of two workers is"
    " stopped (SIGSTOP) for 1 s of every 3.",
    measure,
    (
        Column("attempts", "requests", "sum", 0),
        Column("lost", "lost", digits=0),
        Column("reconnected", "reconnected", digits=0),
        Column("p50_ms", "p50 ms"),
        Column("p99_ms", "p99 ms"),
        Column("p999_ms", "p99.9 ms"),
        Column("max_ms", "max ms", digits=0),
        Column("stalls", "stalls found", "sum", 0),
        Column("moved", "moved, %"),
    ),
    notes,
)
