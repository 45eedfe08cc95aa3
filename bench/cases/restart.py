"""Restarts under load, a new connection for each request: paced, saturated, and from far away."""

from __future__ import annotations

import statistics
import time

from bench.case import Case, Sample, Tally
from bench.harness import Load, steady
from bench.rounds import alternate, chosen, seen, take_turns
from bench.systems import System
from bench.table import LOAD, Column, Row
from bench.ways import Restartable
from segue.lab.link import Conditions
from segue.lab.scenario import SERVER, distance

SEGUE = (
    "segue-gunicorn-sync,segue-gunicorn-gthread,segue-uvicorn,segue-hypercorn,segue-granian,"
    "segue-nginx,segue-haproxy,segue-asyncio,segue-asyncio-drain"
)
EVERYBODY = (
    "gunicorn-sync,gunicorn-gthread,gunicorn-sync-reuse,gunicorn-gthread-reuse,uvicorn,hypercorn,"
    f"granian,nginx,nginx-reuseport,nginx-fewer,haproxy,uvicorn-overlap,asyncio-overlap,"
    f"uvicorn-socket,{SEGUE}"
)
# Those whose listeners may hold something when they close, and their counterparts.
BUSY = (
    "gunicorn-sync-reuse,uvicorn,hypercorn,granian,nginx,nginx-fewer,haproxy,uvicorn-overlap,"
    "asyncio-overlap,segue-uvicorn,segue-granian,segue-nginx,segue-haproxy,segue-asyncio,"
    "segue-asyncio-drain"
)
FAR = (
    "uvicorn,granian,nginx-fewer,haproxy,uvicorn-overlap,asyncio-overlap,segue-uvicorn,"
    "segue-nginx,segue-asyncio,segue-asyncio-drain"
)
FAR_PORT = 8080
COLUMNS = (*LOAD, Column("restart_s", "s a restart", digits=2))


def restarts(server: Restartable, load: Load, number: int, pause: float) -> Sample:
    """Restart so often, with a pause before each and after the last; what clients saw."""
    times = []
    try:
        for _ in range(number):
            with steady(pause):
                pass
            times.append(server.restart())
        with steady(pause):
            pass
    finally:
        result = load.stop()
    return seen(result, restart_s=statistics.median(times))


def paced(
    *, repetitions: int = 3, restart: int = 3, rate: int = 500, pause: float = 0.6,
    systems: str = EVERYBODY,
) -> list[Row]:  # fmt: skip
    """An open loop: connections come whether or not the last ones were answered."""
    return alternate(
        chosen(systems),
        repetitions,
        lambda server: restarts(server, Load(server.port, "--rate", str(rate)), restart, pause),
    )


def saturated(
    *, repetitions: int = 3, restart: int = 3, clients: int = 32, pause: float = 0.6,
    systems: str = BUSY,
) -> list[Row]:  # fmt: skip
    """A closed loop that keeps the server busy, so that something always waits."""
    return alternate(
        chosen(systems),
        repetitions,
        lambda server: restarts(
            server, Load(server.port, "--concurrency", str(clients)), restart, pause
        ),
    )


def far(
    *, repetitions: int = 3, restart: int = 3, rate: int = 300, pause: float = 0.6,
    round_trip_ms: float = 40.0, systems: str = FAR,
) -> list[Row]:  # fmt: skip
    """The paced load over a link: at any moment some handshakes are under way."""

    def measure(system: System, tally: Tally) -> Sample:
        with distance(Conditions(round_trip_ms / 2000)) as lab:
            with lab.server.inside():
                server = system.start(SERVER, FAR_PORT)
                tally.expect(system.name, command=server.shown, claims_none=system.claims_none)
                with server:
                    with lab.client.inside():
                        load = Load(FAR_PORT, "--rate", str(rate), host=SERVER)
                    # The first SYNs need a round trip before anything is under way.
                    time.sleep(2 * round_trip_ms / 1000)
                    sample = restarts(server, load, restart, pause)
            if lab.client.dropped() + lab.server.dropped():
                raise RuntimeError("the link's own queues overflowed, so its losses are no news")
            return sample

    return take_turns(chosen(systems), repetitions, measure)


PACED = Case(
    "restart",
    "Restart, new connections",
    "500 new connections a second, an open loop, one request on each; three restarts a repetition,"
    " 0.6 s apart.",
    paced,
    COLUMNS,
    lambda _: [
        (
            "At this pace a fast server's queue is empty at almost every instant, so a listener"
            " that closes rarely takes anything with it; the next table keeps the queues filled."
        ),
        (
            "uvicorn cannot set SO_REUSEPORT itself: its listener is open before it runs, and"
            " connections wait in it while it starts."
        ),
        (
            "hypercorn stops its workers before it starts new ones: what comes meanwhile waits, and"
            " beyond its backlog of 100 a SYN is dropped and comes again after a second."
        ),
        (
            "nginx 4->2->4: every second reload closes two of four listeners; the other reloads"
            " close none."
        ),
    ],
    quick={"restart": 2, "pause": 0.4},
)
SATURATED = Case(
    "restart-busy",
    "Restart, new connections, saturated",
    "32 clients in a closed loop, a new connection for each request, as fast as they are answered;"
    " three restarts a repetition. A client whose attempt fails tries again after a pause, so the"
    " number of refused attempts is the length of an outage and not of a queue.",
    saturated,
    COLUMNS,
    quick={"restart": 2, "pause": 0.4},
)
FAR_AWAY = Case(
    "restart-far",
    "Restart, new connections over a 40 ms link",
    "300 new connections a second over a link with a round trip of 40 ms (segue.lab); three"
    " restarts a repetition. About a dozen handshakes are half-open whenever a listener closes.",
    far,
    COLUMNS,
    quick={"restart": 2, "pause": 0.4},
)
