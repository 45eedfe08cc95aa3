"""Kept connections of servers that restart themselves, as they are and with attach --carry http."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.attached import Attached
from bench.case import Case, Sample, Tally
from bench.cases.carry import COLUMNS, restarted
from bench.harness import free_port
from bench.rounds import chosen, take_turns
from bench.systems import LOCAL, Start, by_hup, overlapping, uvicorn_third
from bench.table import Column, Row
from bench.ways import Restartable

_CARRY = ("--carry", "http", "--idle-grace", "0.1")
# The workers of a reload are of one process group: each process counts as a version.
_EACH = ("--generation-by", "process", "--together", "0.5")


@dataclass(frozen=True, slots=True)
class Way:
    """A server and how it is restarted; ``flags`` are of segue attach, () for none of that."""

    name: str
    start: Start
    flags: tuple[str, ...] = ()
    claims_none: bool = False


def ways() -> list[Way]:
    """Each twice."""
    beside = ("--together", "0")
    found: list[Way] = []
    for name, start, flags, claims in (
        ("uvicorn, a new one beside, 3 s", overlapping(uvicorn_third(), wait=3.0), beside, True),
        (
            "gunicorn gthread, a new master beside",
            chosen("gunicorn-gthread-reuse")[0].start,
            beside,
            False,
        ),
        (
            "gunicorn gthread --reuse-port, HUP",
            by_hup("gunicorn-gthread", "--reuse-port", "--keep-alive", "60"),
            _EACH,
            False,
        ),
        ("granian, HUP", by_hup("granian"), _EACH, False),
        ("nginx reload, reuseport", chosen("nginx-reuseport")[0].start, _EACH, False),
    ):
        carried = f"{name}, segue attach --carry http"
        found += [Way(name, start), Way(carried, start, (*flags, *_CARRY), claims)]
    return found


def measure(
    *, repetitions: int = 1, restart: int = 5, clients: int = 50, think: float = 0.4,
    pause: float = 3.0, only: str = "",
) -> list[Row]:  # fmt: skip
    """``only`` is a word that the names must have."""

    def once(way: Way, tally: Tally) -> Sample:
        server = way.start(LOCAL, free_port())
        tally.expect(way.name, command=server.shown, claims_none=way.claims_none)
        with server:
            if not way.flags:
                return restarted(server, restart, clients, think, pause)
            return attached(server, way.flags, restart, clients, think, pause)

    return take_turns([one for one in ways() if only in one.name], repetitions, once)


def attached(
    server: Restartable,
    flags: tuple[str, ...],
    restart: int,
    clients: int,
    think: float,
    pause: float,
    before: tuple[str, ...] = (),
) -> Sample:
    """Restarted as in ``restarted``, with segue attach; ``before`` stands before its command."""
    with Attached(server.port, *flags, before=before) as attends:
        found = restarted(server, restart, clients, think, pause)
        status = attends.ask("status")["status"]
        return Sample({**found.measures, "carried": float(status["carried"])}, found.kinds)


def notes(_: Sequence[Row]) -> list[str]:
    """What happens to whom."""
    return [
        (
            "A new one beside: started, and the old one is stopped once the new one has answered."
            " uvicorn closes kept connections when it is told to stop, so the old one is left for"
            " 3 s more; gunicorn's threads leave them for 2 s by themselves."
        ),
    ]


CASE = Case(
    "carry-attach",
    "Restarts that Segue does not make, kept connections",
    "Clients as in carry-servers; five restarts. As the servers are, and with segue attach --carry"
    " http --idle-grace 0.1 beside them.",
    measure,
    (*COLUMNS, Column("carried", "carried", "sum", 0)),
    notes,
    quick={"restart": 2},
)
