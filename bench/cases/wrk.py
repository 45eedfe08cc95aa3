"""The probe beside wrk: connections a second from one core, on the same server, in turn.

nginx, one worker, has the last core to itself; each client runs alone on the first one.  Both open
a new connection for every request ("Connection: close"), which wrk does in a closed loop only, so
the probe's closed loop is what is compared.  Its open loop is held against its own promise.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.case import FAULTS, Case, Sample, Tally
from bench.harness import BIN, ROOT, Server, free_port, program
from bench.rounds import told
from bench.table import Column, Row

_CONFIG = """\
daemon off; worker_processes 1; error_log stderr warn; pid {folder}/pid;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "ok"; }} }}
}}
"""
_PROMISE = 10_000
# One wakes up late on a shared machine; this is still far below a round trip of any network.
_LATE_MS = 10.0
WRK, CLOSED, OPEN = "wrk", "segue probe, closed loop", "segue probe, open loop"


def measure(*, repetitions: int = 5, seconds: float = 4.0, clients: int = 16) -> list[Row]:
    """Three clients in turns."""
    first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
    port, tally = free_port(), Tally()
    runs: dict[str, Callable[[], Sample]] = {
        WRK: lambda: _wrk(port, clients, seconds, first),
        CLOSED: lambda: _probe(port, ["--concurrency", str(clients)], seconds, first),
        OPEN: lambda: _probe(port, ["--rate", str(_PROMISE)], seconds, first),
    }
    for name in runs:
        tally.expect(name)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(_CONFIG.format(folder=folder, port=port))
        nginx = ["taskset", "-c", str(last), program("nginx"), "-c", str(config)]
        with Server(nginx, port):
            for _ in range(repetitions):
                for name, run in runs.items():
                    try:
                        sample = run()
                    except FAULTS as error:
                        tally.failed(name, error)
                        continue
                    told(name, sample)
                    tally.add(name, sample)
    return tally.rows()


def _busy(core: int) -> float:
    """Seconds that this core was used or not ours to use, since the machine started."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            idle, waiting = int(fields[3]), int(fields[4])
            # Guests' time is counted in user and nice already (proc(5)).
            return (sum(map(int, fields[:8])) - idle - waiting) / os.sysconf("SC_CLK_TCK")
    raise RuntimeError(f"/proc/stat has no cpu{core}")


def _run(argv: list[str], core: int) -> tuple[str, float, float]:
    """What it printed, the CPU time of the process, and of others on its core (s)."""
    before = _busy(core)
    with subprocess.Popen(
        ["taskset", "-c", str(core), *argv],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{argv} exited with {process.returncode}: {said}")
    own = used.ru_utime + used.ru_stime
    return said, own, max(0.0, _busy(core) - before - own)


def _wrk(port: int, clients: int, seconds: float, core: int) -> Sample:
    said, cpu, others = _run(
        [program("wrk"), "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s",
         "-H", "Connection: close", f"http://127.0.0.1:{port}/"], core,
    )  # fmt: skip
    requests = re.search(r"(\d+) requests in ([\d.]+)s", said)
    if requests is None:
        raise RuntimeError(f"wrk said no number of requests: {said}")
    errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    total = int(requests[1])
    return Sample(
        {
            "attempts": total,
            "rate": total / float(requests[2]),
            "cpu_us": cpu / total * 1e6,
            "others": 100 * others / seconds,
            "lost": sum(map(int, errors.groups())) if errors else 0,
        },
        {},
    )


def _probe(port: int, load: list[str], seconds: float, core: int) -> Sample:
    """One run of the probe, its CPU time without what starting costs."""
    command = [str(BIN / "python"), "-m", "bench.load", f"127.0.0.1:{port}"]
    _, start, _ = _run([*command, "--rate", "1", "--count", "1"], core)
    said, cpu, others = _run([*command, *load, "--duration", str(seconds)], core)
    result: dict[str, Any] = json.loads(said)
    return Sample(
        {
            "attempts": result["total"],
            "rate": result["rate"],
            "cpu_us": (cpu - start) / result["total"] * 1e6,
            "others": 100 * others / seconds,
            "lost": result["lost"],
            "late_ms": result["late_ms"],
            "p99_ms": result["p99_ms"],
            "untold": result["total"] - sum(result["counts"].values()) + result["unbegun"],
        },
        {},
    )


def _notes(rows: Sequence[Row]) -> list[str]:
    open_loop = next((row.measures for row in rows if row.system == OPEN), {})
    if not open_loop:
        return []
    kept = (
        statistics.median(open_loop["rate"]) > 0.99 * _PROMISE
        and statistics.median(open_loop["late_ms"]) < _LATE_MS
        and not sum(open_loop["untold"])
    )
    verdict = "kept" if kept else "not kept here"
    return [f"{_PROMISE:,} connections a second from one core, every fate told: {verdict}."]


CASE = Case(
    "wrk",
    "The probe beside wrk",
    "nginx on one core, each client alone on the other, in turns; a connection for each request."
    " *Late*: one in a hundred attempts began so much after its time or later. *Others*: what other"
    " processes took of the client's core.",
    measure,
    (
        Column("attempts", "attempts", "sum", 0),
        Column("rate", "connections/s", digits=0),
        Column("cpu_us", "CPU us each", digits=0),
        Column("others", "others %", digits=0),
        Column("lost", "lost", digits=0),
        Column("p99_ms", "p99 ms"),
        Column("late_ms", "late ms"),
        Column("untold", "without a fate", "sum", 0),
    ),
    _notes,
    quick={"seconds": 1.0},
)
