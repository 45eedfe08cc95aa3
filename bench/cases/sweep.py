"""A thousand forecasts on one process and on two, and what becomes of them when one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.case import Case, Sample, Tally
from bench.harness import ROOT, wait_until
from bench.rounds import told
from bench.table import Column, Row
from segue.linux import proc

_LIMIT_S = 1200.0
ONE, TWO, KILLED, RESUMED = (
    "one process", "two processes", "one of two is killed half way",
    "all are killed half way, and it goes on",
)  # fmt: skip


def measure(*, side: int = 10, restart: int = 400, repetitions: int = 1) -> list[Row]:
    """``side`` values of each of three figures; so many restarts are simulated of each."""
    tally = Tally()
    for name in (ONE, TWO, KILLED, RESUMED):
        tally.expect(name)
    for number in range(repetitions):
        with tempfile.TemporaryDirectory() as place:
            sweep = _Sweep(Path(place), side, restart)
            alone, first = sweep.whole(1)
            for name, (seconds, found) in {
                ONE: (alone, first),
                TWO: sweep.whole(2),
                KILLED: sweep.disturbed(_kill_one),
                RESUMED: sweep.disturbed(_kill_all),
            }.items():
                sample = Sample(
                    {
                        "configurations": float(side**3),
                        "seconds": seconds,
                        "faster": alone / seconds,
                        "same": float(found == first),
                    },
                    {},
                )
                tally.add(name, sample)
                told(f"{number + 1}/{repetitions}  {name}", sample)
    return tally.rows()


class _Sweep:
    """A file, and commands that do what it asks."""

    def __init__(self, place: Path, side: int, restart: int) -> None:
        self._file, self._results, self._total = place / "sweep.toml", place, side**3
        values = [one + 1 for one in range(side)]
        self._file.write_text(
            f"restarts = {restart}\n[service.a]\n"
            f"rate = {[100 * one for one in values]}\n"
            f"rtt = {[str(20 * one) for one in values]}\n"
            f"kept = {[100 * one for one in values]}\n"
        )

    def whole(self, processes: int) -> tuple[float, bytes]:
        """Undisturbed: seconds, and what it says as JSON."""
        return self._go(f"whole-{processes}", processes)

    def disturbed(self, disturb: Callable[[int], None]) -> tuple[float, bytes]:
        """Of two processes; ``disturb`` is called half way, and the command again if it ended."""
        name = disturb.__name__
        begun = time.monotonic()
        with subprocess.Popen(
            self._command(name, 2), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
        ) as sweeping:
            try:
                wait_until(lambda: 2 * self._done(name) >= self._total, _LIMIT_S, "half of it")
                disturb(sweeping.pid)
                sweeping.wait(_LIMIT_S)
            finally:
                sweeping.kill()
        _, found = self._go(name, 2)
        return time.monotonic() - begun, found

    def _go(self, name: str, processes: int) -> tuple[float, bytes]:
        begun = time.monotonic()
        done = subprocess.run(
            self._command(name, processes),
            cwd=ROOT,
            check=False,
            capture_output=True,
            timeout=_LIMIT_S,
        )
        if done.returncode:
            raise RuntimeError(f"the sweep ended with {done.returncode}: {done.stderr[-300:]!r}")
        return time.monotonic() - begun, done.stdout

    def _command(self, name: str, processes: int) -> list[str]:
        return [
            *(sys.executable, "-m", "segue", "plan", "--sweep", str(self._file), "--json"),
            *("--results", str(self._results / name), "--processes", str(processes)),
        ]

    def _done(self, name: str) -> int:
        """Besides the line that names the sweep."""
        file = self._results / name
        return file.read_bytes().count(b"\n") - 1 if file.exists() else 0


def _kill_one(pid: int) -> None:
    """The first process that simulates."""
    victim = next(
        one
        for one in proc.tree(pid)
        if any("spawn_main" in word for word in proc.command_line(one))
    )
    os.kill(victim, signal.SIGKILL)


def _kill_all(pid: int) -> None:
    """The command and all of its processes."""
    for one in proc.tree(pid):
        os.kill(one, signal.SIGKILL)


CASE = Case(
    "sweep",
    "A sweep of a thousand configurations",
    "segue plan --sweep forecasts a thousand configurations on Dask: ten rates, ten round trips"
    " and ten numbers of kept connections, 400 restarts of each. *Times as fast* is against one"
    " process, with whatever a disturbance costs. *Same* counts the repetitions whose output was"
    " that of one process, byte for byte.",
    measure,
    (
        Column("configurations", "configurations", digits=0),
        Column("seconds", "seconds"),
        Column("faster", "times as fast", digits=2),
        Column("same", "same", "sum", 0),
    ),
    quick={"side": 4, "restart": 100},
)
