"""The model and PyTCP as servers behind a TUN interface, for the same clients.

Both answer ``GET /10`` with ten bytes of body.  PyTCP runs ``bench.pytcp_server``.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import Self

from bench.harness import ROOT, shown

SERVER = "10.99.0.2"
_STOP_SECONDS = 20.0
_END = re.compile(r"(\d+) answers, (\d+) restarts, (\d+) migrated, (\d+) reset")


class Behind:
    """One server in a process of its own, on one core if that is asked for."""

    argv: tuple[str, ...] = ()

    def __init__(self, *more: str, core: int | None = None) -> None:
        pinned = [] if core is None else ["taskset", "-c", str(core)]
        argv = [sys.executable, *self.argv, *more]
        self.shown = shown(argv)
        self.process = subprocess.Popen(
            [*pinned, *argv], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert self.process.stdout
        line = self.process.stdout.readline()
        if "listens" not in line:
            self.process.kill()
            raise RuntimeError(f"{self.shown} said {line}{self.process.communicate()[0]}")

    def cpu_s(self) -> float:
        """What it has used, its part of the kernel's work included."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> str:
        """End it; what it said since it listened."""
        self.process.terminate()
        try:
            return self.process.communicate(timeout=_STOP_SECONDS)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.communicate()[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()


class Model(Behind):
    """``segue lab serve``."""

    argv = ("-m", "segue", "lab", "serve")

    def restart(self) -> None:
        """Its listener, before the next packet that comes."""
        self.process.send_signal(signal.SIGUSR1)

    def end(self) -> tuple[int, int, int, int]:
        """Stop it: answers, restarts, what migrated, and resets it sent."""
        said = self.stop()
        found = _END.search(said)
        if found is None:
            raise RuntimeError(f"{self.shown} ended with: {said}")
        answers, restarts, migrated, resets = map(int, found.groups())
        return answers, restarts, migrated, resets


class PyTcp(Behind):
    """The PyPI package pmd-pytcp, over a TUN interface of its own."""

    argv = ("-m", "bench.pytcp_server")
