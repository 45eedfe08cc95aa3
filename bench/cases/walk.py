"""How far a restart and a stall go through the code: files entered, moves between files, calls."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.case import Case, Sample, Tally
from bench.harness import Server, answer, free_port, wait_until
from bench.rounds import told
from bench.table import Column, Row

_STALL = "sleep:0.5"
_SECONDS = 30.0


class Walked(Server):
    """``segue run`` of two workers, in a process that counts its calls when told to."""

    def __init__(self, port: int) -> None:
        self.directory = tempfile.mkdtemp(prefix="segue-walk-")
        self.counted = Path(self.directory, "counted")
        super().__init__(
            [
                *(sys.executable, "-m", "bench.walked", str(self.counted)),
                *("run", "--name", "walk", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--"),
                *(sys.executable, "-m", "examples.stalling"),
            ],
            port,
            env={"SEGUE_DIRECTORY": self.directory, "STALL": _STALL},
        )

    def count(self, during: Callable[[], object]) -> dict[str, Any]:
        """What the supervisor walks through meanwhile."""
        self.process.send_signal(signal.SIGRTMIN)
        during()
        self.process.send_signal(signal.SIGRTMIN)
        wait_until(self.counted.exists, _SECONDS, "the counts")
        found: dict[str, Any] = json.loads(self.counted.read_text())
        self.counted.unlink()
        return found

    def order(self, verb: str) -> dict[str, Any]:
        """The last answer to one request."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(_SECONDS)
            asking.connect(f"{self.directory}/walk.sock")
            asking.sendall(json.dumps({"do": verb}).encode() + b"\n")
            *_, last = asking.makefile("rb")
        found: dict[str, Any] = json.loads(last)
        return found

    def serving(self) -> bool:
        """The first generation takes connections."""
        return bool(self.order("status")["status"]["phase"] == "serving")

    def stall(self) -> None:
        """One worker sleeps for half a second under load, until it accepts again."""
        workers = self.order("status")["status"]["workers"]
        os.kill(workers[-1]["pid"], signal.SIGUSR2)
        wait_until(lambda: "accepts again" in self.log(), _SECONDS, "the worker accepts again")

    def stop(self) -> None:
        """Stop, and remove its directory."""
        super().stop()
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def _load(port: int, rate: int) -> Iterator[None]:
    """So many connections a second, one after the other, which is enough to be noticed."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(1 / rate):
            threading.Thread(target=answer, args=("127.0.0.1", port), daemon=True).start()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()


def measure(*, repetitions: int = 5, rate: int = 100) -> list[Row]:
    """Each walk so many times."""
    tally = Tally()
    for _ in range(repetitions):
        # A new supervisor each time: the same stall is not said twice within ten seconds.
        with Walked(free_port()) as server:
            wait_until(server.serving, _SECONDS, "the first generation serves")
            restarted = server.count(lambda: server.order("restart"))
            _add(tally, "segue restart, 2 workers", restarted)
            with _load(server.port, rate):
                time.sleep(0.2)  # both workers have accepted something by then
                _add(tally, "a stall of 0.5 s, 1 of 2 workers", server.count(server.stall))
    return tally.rows()


def _add(tally: Tally, name: str, found: dict[str, Any]) -> None:
    if os.environ.get("WALK_FILES"):
        edges = (f"{count:6} {a} -> {b}" for a, b, count in found["edges"])
        print(*found["files"], json.dumps(found["pass_on"]), *edges, sep="\n")
    sample = Sample(
        {
            "files": len(found["files"]),
            "moves": found["moves"],
            "calls": found["calls"],
            "passing": sum(found["pass_on"].values()),
        },
        {},
    )
    tally.add(name, sample)
    told(name, sample)


CASE = Case(
    "walk",
    "How far a restart and a stall go through the code",
    "Files of Segue that are entered, moves between files, calls, and calls of functions that only"
    " pass on; a call profile of the supervisor from the order to the answer, and from the stall"
    " until the worker accepts again.",
    measure,
    (
        Column("files", "files", digits=0),
        Column("moves", "moves", digits=0),
        Column("calls", "calls", digits=0),
        Column("passing", "only pass on", digits=0),
    ),
)
