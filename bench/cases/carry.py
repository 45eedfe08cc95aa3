"""Kept connections through restarts, carried or not: of clients that do not look before they send.

Two tables.  The first is what users have today, with clients that think up to 1.6 s; the second has
every kind of server, and clients that ask more often.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bench.case import Case, Sample
from bench.harness import Server, steady
from bench.keepers import DRAIN, HTTP, keepers
from bench.rounds import alternate, chosen
from bench.systems import System, by_hup, under_segue
from bench.table import Column, Row
from bench.thinking import Thinking
from bench.ways import Restartable

_CHANGING = re.compile(r"segue-bench-\w+|0x[0-9a-f]+|\d+")
_OURS = " segue: "
_COMPLAINS = re.compile(r"(?i)error|exception|traceback|alert|warn|crit|emerg|fatal|fail")
COLUMNS = (
    Column("attempts", "requests", "sum", 0),
    Column("lost", "lost", digits=0),
    Column("reconnected", "reconnected", digits=0),
    Column("p50_ms", "p50 ms"),
    Column("p99_ms", "p99 ms"),
    Column("max_ms", "max ms", digits=0),
    Column("restart_s", "s a restart", digits=2),
    Column("complaints", "complaints in the log", "sum", 0),
)
MORE_COLUMNS = (*COLUMNS, Column("new_lines", "lines only with a carry", "sum", 0))


def restarted(server: Restartable, number: int, clients: int, think: float, pause: float) -> Sample:
    """Restart so often under such clients; what they saw, and what the server's log has."""
    before, times = _complaints(server), []
    with Thinking(server.host, server.port, clients, think) as thinking:
        for _ in range(number):
            with steady(pause):
                pass
            times.append(server.restart())
        with steady(pause):
            pass
        found = thinking.stop()
    measures = {
        "attempts": float(found.asked),
        "lost": float(found.lost.total()),
        "reconnected": float(found.reconnected),
        "p50_ms": found.at(0.5),
        "p99_ms": found.at(0.99),
        "max_ms": found.at(1.0),
        "restart_s": statistics.median(times),
        "complaints": float(_complaints(server) - before),
    }
    return Sample(measures, dict(found.lost))


def _complaints(server: Restartable) -> int:
    """Lines of the log with a word such as "error"."""
    if not isinstance(server, Server):
        return 0
    return sum(bool(_COMPLAINS.search(line)) for line in server.log().splitlines())


def lines(server: Restartable) -> frozenset[str]:
    """The kinds of lines that the server itself has printed: with every number alike."""
    if not isinstance(server, Server):
        return frozenset()
    theirs = [line for line in server.log().splitlines() if _OURS not in line]
    return frozenset(_CHANGING.sub("#", line.strip()) for line in theirs)


def compared(rows: Sequence[Row], said: Mapping[str, frozenset[str]]) -> list[Row]:
    """The rows with a carry get the number of kinds of lines that the server has only there.

    ``said`` has the lines of each row, by its command.  The lines are printed.
    """
    plain: dict[str, frozenset[str]] = {}
    for row in rows:
        if not row.claims_none:
            kind = row.system.partition(",")[0]
            plain[kind] = plain.get(kind, frozenset()) | said.get(row.command, frozenset())
    found = []
    for row in rows:
        if not row.claims_none or row.command not in said:
            found.append(row)
            continue
        new = said[row.command] - plain.get(row.system.partition(",")[0], frozenset())
        for line in sorted(new):
            print(f"only in {row.system}: {line}", flush=True)
        found.append(replace(row, measures={**row.measures, "new_lines": [float(len(new))]}))
    return found


def today() -> list[System]:
    """What restarts a server today, and a carry."""
    known = {
        "uvicorn --workers 2, HUP": by_hup("uvicorn"),
        "nginx reload, reuseport": chosen("nginx-reuseport")[0].start,
        "gunicorn gthread, HUP": by_hup("gunicorn-gthread", "--keep-alive", "5"),
        "segue run, uvicorn": under_segue("uvicorn", "migrate", *DRAIN, "--carry", "off"),
        "segue run, uvicorn, Draining": under_segue(
            "uvicorn", "migrate", *DRAIN, "--carry", "off", draining=True
        ),
    }
    carried = {
        "segue run --carry app, uvicorn, Draining": under_segue(
            "uvicorn", "migrate", "--carry", "app", draining=True
        ),
        "segue run --carry http, uvicorn": under_segue("uvicorn", "migrate", *HTTP),
    }
    return [
        *(System(name, start) for name, start in known.items()),
        *(System(name, start, claims_none=True) for name, start in carried.items()),
    ]


def thinkers(
    *, repetitions: int = 3, restart: int = 5, clients: int = 40, think: float = 1.6,
    pause: float = 2.0,
) -> list[Row]:  # fmt: skip
    """A request that gets no answer is lost: nobody sends it again."""
    return alternate(
        today(), repetitions, lambda server: restarted(server, restart, clients, think, pause)
    )


def servers(
    *, repetitions: int = 1, restart: int = 10, clients: int = 50, think: float = 0.4,
    pause: float = 0.3, only: str = "", rows: str = "",
) -> list[Row]:  # fmt: skip
    """``only`` names some of the kinds, with commas between; ``rows`` is a word of their names."""
    said: dict[str, frozenset[str]] = {}

    def measure(server: Restartable) -> Sample:
        sample = restarted(server, restart, clients, think, pause)
        said[server.shown] = said.get(server.shown, frozenset()) | lines(server)
        return sample

    kinds = keepers([name for name in only.split(",") if name])
    wanted = [one for one in kinds if rows in one.name]
    return compared(alternate(wanted, repetitions, measure), said)


def notes(_: Sequence[Row]) -> list[str]:
    """What the columns mean."""
    return [
        (
            "A client of Python's http.client does not look whether its kept connection was closed"
            " before it sends. Reconnected: a connection made after the first, by any client."
        ),
        ("With --carry http, --idle-grace is 0.1 s: none of these answers pauses."),
        (
            "Complaints are lines of the server's and Segue's log with a word such as error, alert"
            " or Traceback, from the first restart on."
        ),
    ]


def more_notes(rows: Sequence[Row]) -> list[str]:
    """And that of the last column."""
    return [
        *notes(rows),
        (
            "Lines only with a carry are kinds of lines, all numbers alike, which the server has"
            " printed in no row without one."
        ),
    ]


THINKERS = Case(
    "carry",
    "Restart, kept connections of clients that do not look before they send",
    "40 clients of Python's http.client that keep their connection and think up to 1.6 s before a"
    " request; five restarts a repetition.",
    thinkers,
    COLUMNS,
    notes,
    quick={"restart": 2, "pause": 1.0},
)
SERVERS = Case(
    "carry-servers",
    "Restart, kept connections, every kind of server",
    "50 clients of Python's http.client that keep their connection and think up to 0.4 s before a"
    " request; ten restarts.",
    servers,
    MORE_COLUMNS,
    more_notes,
    quick={"restart": 2},
)
