"""Servers that keep connections, each restarted in its own way, by Segue, and with a carry."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.harness import Segue
from bench.systems import (
    Start,
    System,
    by_hup,
    haproxy_reload,
    haproxy_under_segue,
    nginx_reload,
    nginx_under_segue,
    under_segue,
)
from bench.ways import Restartable

# A worker waits so long for clients that it could not get rid of otherwise.
DRAIN = ("--drain-timeout", "2")
# None of their answers pauses, so that a short time is enough.
HTTP = ("--carry", "http", "--idle-grace", "0.1")
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Keeper:
    """One kind: ``segue`` starts it with more options; ``draining`` with the middleware too."""

    name: str
    segue: Callable[..., Start]
    draining: Callable[..., Start] | None = None
    own: Start | None = None

    def rows(self) -> list[System]:
        """Its own restart; Segue's without a carry; and carried, which loses none."""
        found = [] if self.own is None else [System(f"{self.name}, its own restart", self.own)]
        if self.draining is None:
            found.append(System(f"{self.name}, segue run", self.segue(*DRAIN, "--carry", "off")))
        else:
            off, app = self.draining(*DRAIN, "--carry", "off"), self.draining("--carry", "app")
            found += [
                System(f"{self.name}, segue run, Draining", off),
                System(f"{self.name}, segue run --carry app, Draining", app, claims_none=True),
            ]
        http = self.segue(*HTTP)
        return [*found, System(f"{self.name}, segue run --carry http", http, claims_none=True)]


def keepers(only: Sequence[str] = ()) -> list[System]:
    """The rows of every kind, or of those that are named.  Raises KeyError."""
    known = {one.name: one for one in _all()}
    return [row for name in only or known for row in known[name].rows()]


def _all() -> list[Keeper]:
    return [
        *(_python("uvicorn", f"uvicorn {loop}", "--loop", loop) for loop in ("asyncio", "uvloop")),
        _python("gunicorn-gthread", "gunicorn gthread"),
        _python("hypercorn", "hypercorn"),
        _python("granian", "granian"),
        Keeper("nginx", _with(nginx_under_segue), own=nginx_reload((2,), "reuseport")),
        Keeper("node", _program("node", str(_HERE / "keeping.js"))),
        Keeper("HAProxy", _with(haproxy_under_segue), own=haproxy_reload),
        Keeper("asyncio", _program(sys.executable, "-m", "bench.keeping_asyncio")),
    ]


def _python(kind: str, name: str, *words: str) -> Keeper:
    def segue(*more: str) -> Start:
        return under_segue(kind, "migrate", *more, words=words)

    def draining(*more: str) -> Start:
        return under_segue(kind, "migrate", *more, draining=True, words=words)

    return Keeper(name, segue, draining, by_hup(kind, *words))


def _with(start: Callable[..., Restartable]) -> Callable[..., Start]:
    return lambda *more: lambda host, port: start(host, port, *more)


def _program(*argv: str) -> Callable[..., Start]:
    def start(host: str, port: int, *more: str) -> Restartable:
        return Segue(list(argv), port, engine="migrate", more=more, host=host)

    return _with(start)
