"""What ``segue plan`` says beforehand of restarts by ``close``, and what clients then lose."""

from __future__ import annotations

import contextlib
import socket
import statistics
import sys
import time
from dataclasses import replace

from bench.case import Case, Sample, Tally
from bench.cases.restart import FAR_PORT, restarts
from bench.harness import Load, free_port
from bench.rounds import take_turns
from bench.systems import LOCAL, System, overlapping, uvicorn_third
from bench.table import Column, Row
from bench.ways import BACKLOG, inheriting
from segue.address import Address
from segue.lab.link import Conditions
from segue.lab.scenario import SERVER, distance
from segue.linux.sockopt import open_listener
from segue.observe.snapshot import Observer
from segue.plan import live
from segue.plan.simulate import LOST, Study, forecast

# Longer than a handshake: by then as many requests are at the new listeners as at the old ones.
_BESIDE_S = 0.2
_LIMIT_S = 10.0
OWN, UVICORN = "asyncio example", "uvicorn --fd"
_OWN = [sys.executable, "-m", "bench.own_listener", "{host}:{port}"]


def measure(
    *,
    repetitions: int = 3,
    restart: int = 20,
    rate: int = 300,
    seconds: float = 10.0,
    pause: float = 0.5,
    round_trip_ms: float = 40.0,
) -> list[Row]:
    """Look at the server under load, forecast so many restarts, then restart it so often."""
    after_s = {OWN: 0.0, UVICORN: _closes_after_s(uvicorn_third())}

    def of(system: System, tally: Tally) -> Sample:
        with (
            distance(Conditions(round_trip_ms / 2000, jitter_s=round_trip_ms / 2000)) as lab,
            lab.server.inside(),
        ):
            server = system.start(SERVER, FAR_PORT)
            tally.expect(system.name, command=server.shown)
            with server:
                with lab.client.inside():
                    load = Load(FAR_PORT, "--rate", str(rate), host=SERVER)
                time.sleep(4 * round_trip_ms / 1000)
                with Observer() as observer:
                    where = Address(SERVER, FAR_PORT)
                    seen = live.look(observer, where, seconds, lambda _: None)
                study = Study(replace(live.as_load(seen), closes_after_s=after_s[system.name]))
                found = forecast(study).several("close", LOST, restart)
                sample = restarts(server, load, restart, pause)
            if lab.client.dropped() + lab.server.dropped():
                raise RuntimeError("the link's own queues overflowed, so its losses are no news")
        lost = sample.measures["lost"]
        measures = {
            "attempts": sample.measures["attempts"],
            "rate": study.load.rate,
            "after_ms": study.load.closes_after_s * 1000,
            "half_open": study.load.half_open,
            "mean": found.mean,
            "low": found.low,
            "high": found.high,
            "lost": lost,
            "within": float(found.low <= lost <= found.high),
        }
        return Sample(measures, sample.kinds)

    systems = [
        System(OWN, overlapping(_OWN, inherit=False, wait=_BESIDE_S)),
        System(UVICORN, overlapping(uvicorn_third(), wait=_BESIDE_S)),
    ]
    return take_turns(systems, repetitions, of)


def _closes_after_s(argv: list[str], tries: int = 5) -> float:
    """How long a server on descriptor 3 keeps its listener after its last accept(), without load.

    From the first connection that gets no answer to the first that is refused; the median.
    """
    return statistics.median(_closed_after_s(argv) for _ in range(tries))


def _closed_after_s(argv: list[str]) -> float:
    where = Address(LOCAL, free_port())
    with contextlib.ExitStack() as stack:
        with open_listener(where, backlog=BACKLOG) as listener:
            server = inheriting(listener, argv, where.host, where.port)
        stack.callback(server.stop)
        server.wait_serving()
        server.process.terminate()
        sent: list[tuple[float, socket.socket]] = []
        with contextlib.suppress(ConnectionRefusedError):
            while True:
                made = socket.create_connection((where.host, where.port), timeout=_LIMIT_S)
                sent.append((time.monotonic(), stack.enter_context(made)))
                made.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                time.sleep(0.002)
        refused = time.monotonic()
        return refused - next((at for at, one in sent if not _answered(one)), refused)


def _answered(one: socket.socket) -> bool:
    try:
        return bool(one.recv(100))
    except ConnectionResetError:
        return False


CASE = Case(
    "plan",
    "Restarts by close, forecast and then measured",
    "segue plan looks for ten seconds at a server of two processes, under 300 new connections a"
    " second over a link with round trips of 40 to 80 ms, and forecasts what 20 restarts by close"
    " will lose: the mean, and the interval in which 95 of 100 such series are. Then there are 20"
    " restarts: new processes, and 0.2 s later the old ones are told to stop. *Closes after* is how"
    " long a server that stopped accepting keeps its listener, measured before and without load."
    " *Within* counts the repetitions whose losses were in their interval.",
    measure,
    (
        Column("attempts", "attempts", "sum", 0),
        Column("rate", "rate seen", digits=0),
        Column("half_open", "half-open seen"),
        Column("after_ms", "closes after ms", digits=0),
        Column("mean", "forecast", digits=0),
        Column("low", "from", digits=0),
        Column("high", "to", digits=0),
        Column("lost", "lost", digits=0),
        Column("within", "within", "sum", 0),
    ),
    quick={"restart": 5, "seconds": 3.0},
)
