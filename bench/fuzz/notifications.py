"""Datagrams at the socket where workers say that they are ready: none ends the supervisor, or makes
a worker ready that has not said so.
"""

from __future__ import annotations

import contextlib
import random
import socket
import sys
import tempfile
from pathlib import Path

from bench.fuzz.found import Found, mutated
from bench.harness import Server, free_port, program, wait_until
from bench.usage import resident_bytes
from segue.errors import SegueError
from segue.supervisor.control.client import converse
from segue.supervisor.notify import parse

COUNT = 100_000
# It accepts and never says READY=1, which only it may do.
_SILENT = "import socket\nwith socket.socket(fileno=3) as s:\n while True: s.accept()"
_GROWTH = 64 << 20  # bytes, of a supervisor's memory
_LOOK_EACH = 5000
_TEXTS = (
    b"READY=1", b"READY=1\nSTATUS=serving", b"STOPPING=1", b"MAINPID=1\nREADY=1", b"RELOADING=1",
    b"WATCHDOG=1", b"=", b"READY", b"READY=1\0", b"\n" * 4000, b"x=" * 2000, b"\xff=1\nREADY=1",
    b"BARRIER=1", b"EXTEND_TIMEOUT_USEC=" + b"9" * 3000, b"", b"y" * 60_000,
)  # fmt: skip


def fuzz(count: int, first: int) -> Found:
    """So many datagrams of this seed, from a process that is no worker."""
    found, chance = Found(), random.Random(first)
    with tempfile.TemporaryDirectory() as where, contextlib.ExitStack() as stack:
        argv = [
            *(program("segue"), "run", "--name", "fuzz", "--ready", "notify"),
            *("--ready-timeout", "3600", "--bind", f"127.0.0.1:{free_port()}", "--"),
            *(sys.executable, "-S", "-E", "-c", _SILENT),
        ]
        server = Server(argv, 0, env={"SEGUE_DIRECTORY": where})
        stack.callback(server.stop)
        path, control = f"{where}/fuzz.notify", f"{where}/fuzz.sock"
        wait_until(lambda: Path(path).exists(), 60, "the supervisor")
        wait_until(lambda: _stages(control) == ["starting"], 60, "the worker")
        pid = server.process.pid
        before = resident_bytes(pid)
        out = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        out.settimeout(30)
        out.connect(path)
        for number in range(count):
            data = mutated(chance, chance.choice(_TEXTS))
            parse(1, data[:4096])
            with found.timed(f"seed {first}, datagram {number}"):
                out.send(data)
            found.counts["sent"] += 1
            if number % _LOOK_EACH == 0 or number == count - 1:
                with found.timed(f"seed {first}: a status after datagram {number}"):
                    stages = _stages(control)
                if stages != ["starting"]:
                    found.finding(f"seed {first}, datagram {number}: workers are {stages}")
        grown = resident_bytes(pid) - before
        if grown > _GROWTH:
            found.finding(f"seed {first}: the supervisor grew by {grown:,} bytes")
        if server.process.poll() is not None:
            found.finding(f"seed {first}: the supervisor ended\n{server.log()[-2000:]}")
    return found


def _stages(control: str) -> list[str]:
    with contextlib.suppress(OSError, SegueError):
        status = converse(control, {"do": "status"}, lambda _: None).get("status", {})
        return [one["stage"] for one in status.get("workers", [])]
    return []
