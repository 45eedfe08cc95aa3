"""How soon the supervisor hears when workers and strangers keep it as busy as they can."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.case import FAULTS, Case, Sample, Tally
from bench.harness import Segue, free_port, wait_until
from bench.rounds import told
from bench.table import Column, Row
from segue.linux import proc

_ANSWER = "b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n'"
# It serves first, and misbehaves once there is a file of that name.
_WORKER = f"""
import os, signal, socket, sys, threading, time
go, flood, children = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def serve():
    s = socket.socket(fileno=3)
    while True:
        c, _ = s.accept(); c.sendall({_ANSWER}); c.close()
threading.Thread(target=serve, daemon=True).start()
while not os.path.exists(go): time.sleep(0.02)
for _ in range(children):
    if os.fork() == 0:
        signal.pause()
        os._exit(0)
while flood: os.write(1, b'\\n' * 65536)
while True: signal.pause()
"""
# One process for each datagram, of a user who has nothing to do with it.
_STRANGER = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
while True:
    pid = os.fork()
    if pid == 0:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.setblocking(False)
        try: s.sendto(b'READY=1', sys.argv[1])
        except OSError: pass
        os._exit(0)
    os.waitpid(pid, 0)
"""
_FORKED_SECONDS = 120.0
_TERM_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Nuisance:
    """What is done to one supervisor."""

    name: str
    workers: int
    flood: bool = False
    children: int = 0
    strangers: bool = False


def measure(
    *, writers: int = 8, parents: int = 2, children: int = 2000, asks: int = 50
) -> list[Row]:
    """Ask for the status so many times under each nuisance, then send SIGTERM."""
    tally = Tally()
    for one in (
        Nuisance("nothing", writers),
        Nuisance(f"{writers} workers write newlines", writers, flood=True),
        Nuisance(f"{parents} workers with {children} children each", parents, children=children),
        Nuisance(
            "the same, and another user's datagrams", parents, children=children, strangers=True
        ),
        Nuisance(
            f"{writers} workers write, with {children * parents} children in all, and datagrams",
            writers,
            flood=True,
            children=children * parents // writers,
            strangers=True,
        ),
    ):
        tally.expect(one.name)
        try:
            sample = _listened(one, asks)
        except FAULTS as error:
            tally.failed(one.name, error)
            print(f"{one.name}: {error}", flush=True)
        else:
            tally.add(one.name, sample)
            told(one.name, sample)
    return tally.rows()


def _listened(nuisance: Nuisance, asks: int) -> Sample:
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        go = Path(directory) / "go"
        command = ["python3", "-S", "-E", "-c", _WORKER, str(go)]
        command += [str(int(nuisance.flood)), str(nuisance.children)]
        more = ("--stop-timeout", "2")
        server = stack.enter_context(
            Segue(command, free_port(), engine="migrate", workers=nuisance.workers, more=more)
        )
        stack.enter_context(_killed(server))
        wait_until(
            lambda: len(server.accepting()) >= nuisance.workers, _FORKED_SECONDS, "all workers"
        )
        workers = [one["pid"] for one in server.status()["workers"]]
        go.touch()
        wait_until(
            lambda: all(_children(pid) >= nuisance.children for pid in workers),
            _FORKED_SECONDS,
            "the children",
        )
        if nuisance.strangers:
            stack.enter_context(_stranger(f"{server.directory}/bench.notify"))
        answered = []
        for _ in range(asks):
            begun = time.monotonic()
            server.status()
            answered.append(1000 * (time.monotonic() - begun))
            time.sleep(0.02)
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        # They have no handler: who is told has ended.
        wait_until(
            lambda: any(proc.start_time(pid) is None for pid in workers),
            _TERM_SECONDS,
            "SIGTERM obeyed",
        )
        heard = 1000 * (time.monotonic() - begun)
        return Sample(
            {
                "median_ms": statistics.median(answered),
                "max_ms": max(answered),
                "term_ms": heard,
            },
            {},
        )


def _children(pid: int) -> int:
    # Not proc.children, which looks at every thread: these are the main one's.
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
        return len(file.read().split())
    return 0


@contextlib.contextmanager
def _stranger(path: str) -> Iterator[None]:
    # Its own process group: the one that it has just forked is ended with it.
    argv = [sys.executable, "-S", "-E", "-c", _STRANGER, path]
    process = subprocess.Popen(argv, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def _killed(server: Segue) -> Iterator[None]:
    """A supervisor that is deaf is killed, and its workers by their pids."""
    try:
        yield
    finally:
        try:
            server.process.wait(_TERM_SECONDS)
        except subprocess.TimeoutExpired:
            pids = [server.process.pid, *proc.tree(server.process.pid)]
            server.process.send_signal(signal.SIGSTOP)
            pids = list(dict.fromkeys([*pids, *proc.tree(server.process.pid)]))
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def notes(rows: Sequence[Row]) -> list[str]:
    """What the columns are."""
    del rows
    return [
        "`TERM` is the time until the first worker had ended by it.",
        (
            "Whoever writes, forks and asks shares the processors with the supervisor: some of the"
            " time is waiting for one."
        ),
    ]


CASE = Case(
    "deaf",
    "How soon a supervisor hears that is kept busy",
    "`segue status` 50 times, then SIGTERM, while workers write newlines as fast as they can, have"
    " 2,000 children each, and another user sends one datagram from each of many processes.",
    measure,
    (
        Column("median_ms", "status, median ms"),
        Column("max_ms", "status, longest ms"),
        Column("term_ms", "TERM ms"),
    ),
    notes,
    quick={"children": 500, "asks": 10},
)
