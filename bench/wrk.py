"""The probe beside wrk: connections a second from one core, on the same server, in turn.

    python -m bench.wrk [--rounds 5] [--seconds 4] [--clients 16]

nginx, one worker, has the last core to itself; each client runs alone on the first one.  Both open
a new connection for every request ("Connection: close"), which wrk does in a closed loop only, so
the probe's closed loop is what is compared.  Then the probe's open loop is held against its own
promise: 10,000 connections/s from one core, every fate told, none begun late.  CPU time is without
what starting costs; what else ran on the core meanwhile is said, since nobody can use it twice.
wrk must be installed (Debian: apt-get install wrk nginx-light).  Writes bench/results/wrk.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.harness import BIN, ROOT, Server, apart, free_port, machine, program

CONFIG = """\
daemon off; worker_processes 1; error_log stderr warn; pid {folder}/pid;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "ok"; }} }}
}}
"""
PROMISE = 10_000
# One wakes up late on a shared machine; this is still far below a round trip of any network.
LATE_MS = 10.0


def main() -> int:
    """Measure and print; 1 when the promise is not kept in the median round."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    reader.add_argument("--rounds", type=int, default=5)
    reader.add_argument("--seconds", type=float, default=4.0)
    reader.add_argument("--clients", type=int, default=16)
    asked = reader.parse_args()
    if not apart():
        print("this needs root: everything runs in a network namespace of its own")
        return 2
    first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
    port = free_port()
    found: dict[str, list[dict[str, float]]] = {"wrk": [], "closed loop": [], "open loop": []}
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(CONFIG.format(folder=folder, port=port))
        nginx = ["taskset", "-c", str(last), program("nginx"), "-c", str(config)]
        closed = ["--concurrency", str(asked.clients)]
        with Server(nginx, port):
            for _ in range(asked.rounds):
                found["wrk"].append(wrk(port, asked.clients, asked.seconds, first))
                found["closed loop"].append(probe(port, closed, asked.seconds, first))
                found["open loop"].append(
                    probe(port, ["--rate", str(PROMISE)], asked.seconds, first)
                )
    console = Console(width=150)
    console.print(
        f"{machine()}; {asked.clients} clients, {asked.rounds} rounds of {asked.seconds:g} s",
        highlight=False,
    )
    console.print(table(found))
    reached = statistics.median(one["rate"] for one in found["open loop"])
    late = statistics.median(one["late_ms"] for one in found["open loop"])
    untold = sum(int(one["untold"]) for one in found["open loop"] + found["closed loop"])
    kept = reached > 0.99 * PROMISE and late < LATE_MS and not untold
    console.print("late: 1 % were begun so late or later; others: of the core, by other processes")
    console.print(
        f"promise: {PROMISE:,}/s from one core, every fate told: {'kept' if kept else 'NOT kept'}"
    )
    save(found, asked, kept=kept)
    return 0 if kept else 1


def busy(core: int) -> float:
    """Seconds that this core was not ours to use or was used, since the machine started."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            idle, waiting = int(fields[3]), int(fields[4])
            # Guests' time is counted in user and nice already (proc(5)).
            return (sum(map(int, fields[:8])) - idle - waiting) / os.sysconf("SC_CLK_TCK")
    raise RuntimeError(f"/proc/stat has no cpu{core}")


def run(argv: list[str], core: int) -> tuple[str, float, float]:
    """What it printed, the CPU time of the process, and of others on its core (s)."""
    before = busy(core)
    with subprocess.Popen(
        ["taskset", "-c", str(core), *argv],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{argv} exited with {process.returncode}:\n{said}")
    own = used.ru_utime + used.ru_stime
    return said, own, max(0.0, busy(core) - before - own)


def wrk(port: int, clients: int, seconds: float, core: int) -> dict[str, float]:
    """One run of wrk."""
    said, cpu, others = run(
        ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "-H", "Connection: close",
         f"http://127.0.0.1:{port}/"], core,
    )  # fmt: skip
    requests = re.search(r"(\d+) requests in ([\d.]+)s", said)
    assert requests, said
    errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    total = int(requests[1])
    return {
        "rate": total / float(requests[2]),
        "cpu_us": cpu / total * 1e6,
        "others": 100 * others / seconds,
        "lost": sum(map(int, errors.groups())) if errors else 0,
    }


def probe(port: int, load: list[str], seconds: float, core: int) -> dict[str, float]:
    """One run of the probe; ``untold`` is what has no fate, which must be nothing."""
    command = [str(BIN / "python"), "-m", "segue.probe", "--target", f"127.0.0.1:{port}", "--json"]
    _, start, _ = run([*command, "--rate", "1", "--count", "1"], core)
    said, cpu, others = run([*command, *load, "--duration", str(seconds)], core)
    result: dict[str, Any] = json.loads(said)
    return {
        "rate": result["rate"],
        "cpu_us": (cpu - start) / result["total"] * 1e6,
        "others": 100 * others / seconds,
        "lost": result["lost"],
        "late_ms": result["late_ms"],
        "p99_ms": result["p99_ms"],
        "untold": result["total"] - sum(result["counts"].values()) + result["unbegun"],
    }


def table(found: dict[str, list[dict[str, float]]]) -> Table:
    """Medians and ranges."""
    made = Table(box=None, pad_edge=False, header_style="dim")
    made.add_column("")
    for head in ("connections/s", "CPU us each", "others %", "lost", "p99 ms", "late ms"):
        made.add_column(head, justify="right")
    for name, rounds in found.items():
        cells = [
            spread(rounds, key) for key in ("rate", "cpu_us", "others", "lost", "p99_ms", "late_ms")
        ]
        made.add_row(name if name == "wrk" else f"probe, {name}", *cells)
    return made


def spread(rounds: list[dict[str, float]], key: str) -> str:
    """Such as "12,000 (11,500-12,300)"; a dash where it is not measured."""
    values = [one[key] for one in rounds if key in one]
    if not values:
        return "-"
    form = ".2f" if key.endswith("_ms") and max(values) < 100 else ",.0f"
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def save(
    found: dict[str, list[dict[str, float]]], asked: argparse.Namespace, *, kept: bool
) -> None:
    """Every round, for whoever wants other medians."""
    folder = ROOT / "bench" / "results"
    folder.mkdir(exist_ok=True)
    whole = {"machine": machine(), "asked": vars(asked), "rounds": found, "kept": kept}
    (folder / "wrk.json").write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
