"""Connections that look idle and are not, through restarts that carry: how many are broken."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench.case import FAULTS, Case, Sample, Tally
from bench.harness import Segue, free_port, program, steady
from bench.misleading import KINDS, Misleading
from bench.rounds import told
from bench.systems import LOCAL
from bench.table import Column, Row

_HTTP2 = "HTTP/2 with prior knowledge"
_ONLY = {
    "103, then a pause": "asyncio",
    _HTTP2: "hypercorn",  # it speaks that without TLS
}
# By their server when that is told to stop: it does not wait for the end of events.
_ENDED = ("server-sent events", "idle WebSocket", _HTTP2)
_RULES = {
    "off": "bench.pausing:draining",
    "app": "bench.pausing:draining",
    "http": "bench.pausing:app",
}
# As long as the longest exchange takes, so that nothing is cut for another reason.
_MORE = ("--drain-timeout", "60")


def _command(server: str, app: str) -> list[str]:
    if server == "asyncio":
        return [sys.executable, "-m", "bench.keeping_asyncio"]
    if server == "uvicorn":
        quiet = ("--no-access-log", "--log-level", "warning")
        return [program("uvicorn"), app, *quiet, "--fd", "{fd}", "--timeout-keep-alive", "60"]
    keeps = ("--graceful-timeout", "60", "--keep-alive", "60")
    return [program("hypercorn"), app, "-b", "fd://{fd}", *keeps]


def measure(
    *, restart: int = 10, pause: float = 1.5, grace: str = "", rules: str = "off,app,http"
) -> list[Row]:
    """Every kind at once, on the server that can do it; ``grace`` is --idle-grace."""
    tally = Tally()
    runs = [
        (server, rule, [kind for kind in KINDS if _ONLY.get(kind, "uvicorn") == server])
        for server in ("uvicorn", "hypercorn", "asyncio")
        for rule in rules.split(",")
        if server != "asyncio" or rule == "http"  # it has no middleware
    ]
    for _, rule, kinds in runs:
        for kind in kinds:
            claims = rule == "app" and kind not in _ENDED
            tally.expect(f"{kind}, --carry {rule}", claims_none=claims)
    for server, rule, kinds in runs:
        more = (*_MORE, "--carry", rule, *(("--idle-grace", grace) if grace else ()))
        try:
            found = _restarted(_command(server, _RULES[rule]), kinds, more, restart, pause)
        except FAULTS as error:
            for kind in kinds:
                tally.failed(f"{kind}, --carry {rule}", error)
            continue
        for kind, counts in found.items():
            measures = {
                "attempts": counts["exchanges"],
                "lost": counts["broken"],
                "begun": counts["begun"],
                "closed": counts["closed"],
            }
            sample = Sample({name: float(one) for name, one in measures.items()}, {})
            tally.add(f"{kind}, --carry {rule}", sample)
            told(f"{kind}, --carry {rule}", sample)
    return tally.rows()


def _restarted(
    command: list[str], kinds: list[str], more: tuple[str, ...], number: int, pause: float
) -> dict[str, dict[str, int]]:
    with Segue(command, free_port(), engine="migrate", more=more, host=LOCAL) as server:
        clients = Misleading(LOCAL, server.port, kinds)
        try:
            for _ in range(number):
                with steady(pause):
                    server.order("restart", until="serving")
        finally:
            found = clients.stop()
    return found


def notes(_: Sequence[Row]) -> list[str]:
    """What is counted."""
    return [
        (
            "Four clients of each kind, all kinds of a server at once. Pauses last 0.1, 0.3, 1, 3"
            " or 10 s. An exchange is broken if its answer does not come whole, or not in 40 s."
        ),
        (
            "Servers close WebSockets and connections with HTTP/2 when they are told to stop,"
            " and one that gets events when these end, whatever is carried. hypercorn does not"
            " always say GOAWAY before, so a request of HTTP/2 may be lost then. One that came too"
            " late by GOAWAY is sent again, and counts once."
        ),
    ]


CASE = Case(
    "carry-misled",
    "Restart with a carry, connections that look idle and are not",
    "Ten restarts, 1.5 s apart. With off nothing is carried. The rule app knows what is between two"
    " requests, by segue.asgi.Draining; the rule http judges by what comes and goes.",
    measure,
    (
        Column("attempts", "exchanges", "sum", 0),
        Column("lost", "broken", "sum", 0),
        Column("begun", "answers begun", "sum", 0),
        Column("closed", "connections closed", "sum", 0),
    ),
    notes,
    quick={"restart": 3, "pause": 0.5},
)
