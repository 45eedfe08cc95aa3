"""Connections per second through the lab's link, with everything on one core.

    python -m bench.link [--round-trip-ms 40] [--seconds 10] [--connections 400] [--rate 2000]

A server, the probe and the cable between them share one core; each connection is opened, asked one
HTTP request, answered and closed, which takes two round trips.  First as fast as it goes, in a
closed loop; then at a pace, which shows what the link adds to its round trips; then the first again
without the distance.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bench.harness import ROOT, machine
from segue.lab.link import Conditions
from segue.lab.scenario import SERVER, Scenario, distance
from segue.probe.fates import Fate
from segue.probe.result import Result

PORT = 8080
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def serve() -> int:
    """Answer every connection once, until stdin closes: as little as a server can do."""
    listener = socket.create_server((SERVER, PORT), backlog=4096)
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    epoll.register(0, select.EPOLLIN)
    waiting: dict[int, socket.socket] = {}
    print("ready", flush=True)
    while True:
        for descriptor, _ in epoll.poll():
            if descriptor == 0:
                return 0
            if descriptor in waiting:
                with waiting.pop(descriptor) as connection:
                    if connection.recv(4096):
                        connection.send(ANSWER)
                continue
            try:
                while True:
                    connection, _ = listener.accept()
                    waiting[connection.fileno()] = connection
                    epoll.register(connection, select.EPOLLIN)
            except BlockingIOError:
                pass


@dataclass(frozen=True, slots=True)
class Run:
    """One row: what the probe says, and what the cable had to do."""

    result: Result
    packets: int
    cable_cpu_s: float
    dropped: int  # at an interface whose queue was full, before the cable saw them

    def cells(self) -> list[str]:
        """For the table."""
        found = self.result
        return [
            f"{found.rate:,.0f}",
            str(found.total - found.counts.get(Fate.OK, 0)),
            f"{found.p50_ms or 0:.1f}",
            f"{found.p99_ms or 0:.1f}",
            f"{self.packets / max(1, found.total):.1f}",
            f"{self.cable_cpu_s / max(1, self.packets) * 1e6:.1f}",
            str(self.dropped),
        ]


def load(lab: Scenario, pace: list[str], seconds: float) -> Run:
    """One run of the probe against a server of its own."""
    server = lab.server.spawn(
        [sys.executable, "-m", "bench.link", "--serve"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout
    if server.stdout.readline() != b"ready\n":
        raise RuntimeError("the server did not start")
    before = lab.cable.ask(lambda *_: time.thread_time())
    probe = lab.client.spawn(
        [
            *(sys.executable, "-m", "segue.probe", "--target", f"{SERVER}:{PORT}"),
            *(*pace, "--duration", str(seconds), "--json"),
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    text, _ = probe.communicate(timeout=seconds + 60)
    return Run(
        Result.from_dict(json.loads(text)),
        sum(one.arrived for one in lab.cable.counts()),
        lab.cable.ask(lambda *_: time.thread_time()) - before,
        lab.client.dropped() + lab.server.dropped(),
    )


def main() -> int:
    """Measure and print."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    reader.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    reader.add_argument("--round-trip-ms", type=float, default=40.0)
    reader.add_argument("--seconds", type=float, default=10.0)
    reader.add_argument("--connections", type=int, default=400, help="at once")
    reader.add_argument("--rate", type=float, default=2000.0, help="the pace, connections/s")
    reader.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)))
    asked = reader.parse_args()
    if asked.serve:
        return serve()
    os.sched_setaffinity(0, {asked.core})
    closed = ["--concurrency", str(asked.connections), "--max-open", str(asked.connections)]
    paced = ["--rate", str(asked.rate)]
    table = Table(title=f"{machine()}; all on core {asked.core}, {asked.seconds:g} s each")
    table.add_column("load")
    for name in ("round trip", "connections/s", "failed", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for name in ("packets each", "cable us/packet", "dropped"):
        table.add_column(name, justify="right")
    for name, pace, round_trip_ms in (
        (f"{asked.connections} at once", closed, asked.round_trip_ms),
        (f"{asked.rate:g} a second", paced, asked.round_trip_ms),
        (f"{asked.connections} at once", closed, 0.0),
    ):
        with distance(Conditions(round_trip_ms / 2000)) as lab:
            run = load(lab, pace, asked.seconds)
        table.add_row(name, f"{round_trip_ms:g} ms", *run.cells())
    Console(width=130).print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
