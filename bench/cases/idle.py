"""What Segue itself costs over 64 workers or listeners: its memory and its share of a core."""

from __future__ import annotations

import contextlib
import time

from bench.attached import Attached
from bench.case import Case, Sample, Tally
from bench.harness import Load, Segue, Server, free_port, steady
from bench.rounds import told
from bench.table import Column, Row
from bench.usage import cpu_seconds, resident_bytes

# A worker that accepts and does nothing else, so that 64 of them fit beside it.
_ANSWER = "b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n'"
_WORKER = (
    "import socket; s = socket.socket(fileno=3)\n"
    f"while True: c, _ = s.accept(); c.sendall({_ANSWER}); c.close()"
)

# All listeners of the group, in one process.
_LISTENERS = (
    "import select, socket, sys; port, number = map(int, sys.argv[1:]); group = []\n"
    "for _ in range(number):\n"
    " s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n"
    " s.bind(('127.0.0.1', port)); s.listen(); group.append(s)\n"
    "while True:\n"
    " for s in select.select(group, [], [])[0]:\n"
    f"  c, _ = s.accept(); c.sendall({_ANSWER}); c.close()"
)


def measure(
    *, workers: int = 64, seconds: float = 10.0, repetitions: int = 3, rate: int = 200
) -> list[Row]:
    """With and without looks for stalls, at rest and under a light load; so many times each.

    And ``segue attach``, at rest.
    """
    tally = Tally()
    for load in (0, rate):
        for rescue, title in (("30ms", "segue run"), ("off", "segue run --rescue off")):
            name = f"{title}, {workers} workers, {f'{load} connections/s' if load else 'at rest'}"
            _look(tally, name, rescue, load, workers, seconds, repetitions)
    _look_attached(
        tally, f"segue attach, {workers} listeners, at rest", workers, seconds, repetitions
    )
    return tally.rows()


def _look(
    tally: Tally,
    name: str,
    rescue: str,
    rate: int,
    workers: int,
    seconds: float,
    repetitions: int,
) -> None:
    command, more = ["python3", "-S", "-E", "-c", _WORKER], ("--rescue", rescue)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            Segue(command, free_port(), engine="migrate", workers=workers, more=more)
        )
        if rate:
            load = Load(server.port, "--rate", str(rate))
            stack.callback(load.stop)
        _use(tally, name, server.process.pid, seconds, repetitions)


def _look_attached(
    tally: Tally, name: str, listeners: int, seconds: float, repetitions: int
) -> None:
    port = free_port()
    with Server(listeners_command(port, listeners), port), Attached(port) as group:
        group.wait_ready(listeners)
        _use(tally, name, group.pid, seconds, repetitions)


def listeners_command(port: int, number: int) -> list[str]:
    """A server of so many listeners at one port, in one process."""
    return ["python3", "-S", "-E", "-c", _LISTENERS, str(port), str(number)]


def _use(tally: Tally, name: str, pid: int, seconds: float, repetitions: int) -> None:
    for _ in range(repetitions):
        before, begun = cpu_seconds(pid), time.monotonic()
        with steady(seconds):
            pass
        used = (cpu_seconds(pid) - before) / (time.monotonic() - begun)
        resident = resident_bytes(pid) / 1e6
        tally.add(name, Sample({"resident_mb": resident, "core_percent": 100 * used}, {}))
        told(name, Sample({"core_percent": 100 * used}, {}))


CASE = Case(
    "idle",
    "What the supervisor costs",
    "64 workers that have nothing to do, or 200 new connections a second among them, so that it"
    " looks for stalls all the time; three times 10 s. And 64 listeners that segue attach follows.",
    measure,
    (Column("resident_mb", "resident MB"), Column("core_percent", "% of a core", digits=2)),
    quick={"workers": 16, "seconds": 2.0},
)
