"""The model serves curl, chromium and wrk over TUN while its listener is restarted."""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
import time
from collections.abc import Callable

from bench.case import FAULTS, Case, Sample, Tally
from bench.harness import program
from bench.rounds import told
from bench.serving import SERVER, Model
from bench.table import Column, Row

ONE, MANY = "curl, one answer, restarts all the time", "curl, a restart between two requests"
BROWSER = "chromium, a page and what its script asks for"
KEPT, CLOSED = "wrk, kept connections", "wrk, a connection for each request"
_WORD = b"segue "
_URL = f"http://{SERVER}/"


def measure(
    *, megabytes: int = 100, restarts: int = 10, connections: int = 50, seconds: float = 30.0,
    every: float = 0.1,
) -> list[Row]:  # fmt: skip
    """Each on a server of its own; ``every`` is how many seconds are between two restarts."""
    tally, size = Tally(), megabytes * 1_000_000
    always = ("--restart-every", str(every))
    runs: dict[str, tuple[tuple[str, ...], Callable[[Model], dict[str, float]]]] = {
        ONE: (always, lambda _: _curl(size)),
        BROWSER: (always, lambda _: _browse()),
        MANY: ((), lambda model: _between(model, size // restarts, restarts)),
        KEPT: (always, lambda _: _wrk(connections, seconds)),
        CLOSED: (always, lambda _: _wrk(connections, seconds, "-H", "Connection: close")),
    }
    for name, (options, run) in runs.items():
        tally.expect(name, claims_none=True)
        try:
            with Model(*options) as model:
                tally.expect(name, command=model.shown, claims_none=True)
                cpu, begun = model.cpu_s(), time.monotonic()
                measures = run(model)
                measures["cpu"] = 100 * (model.cpu_s() - cpu) / (time.monotonic() - begun)
                _, measures["restarts"], measures["migrated"], _ = model.end()
        except FAULTS as error:
            tally.failed(name, error)
            continue
        sample = Sample(measures, {})
        told(name, sample)
        tally.add(name, sample)
    return tally.rows()


def _download(size: int) -> float:
    """One file by curl, each byte looked at; seconds.  Raises RuntimeError."""
    argv = [program("curl"), "--silent", "--show-error", "--fail", "--max-time", "300"]
    begun = time.monotonic()
    with subprocess.Popen([*argv, f"{_URL}{size}"], stdout=subprocess.PIPE) as curl:
        assert curl.stdout
        got = hashlib.sha256()
        while data := curl.stdout.read(1 << 16):
            got.update(data)
    took = time.monotonic() - begun
    whole = _WORD * (size // len(_WORD) + 1)
    if curl.returncode or got.digest() != hashlib.sha256(memoryview(whole)[:size]).digest():
        raise RuntimeError(f"curl ended with {curl.returncode}, and {size} bytes are not right")
    return took


def _curl(size: int) -> dict[str, float]:
    return {"attempts": 1, "lost": 0, "bytes": size / _download(size) / 1e6}


def _between(model: Model, size: int, times: int) -> dict[str, float]:
    """A file, a restart, the next file, on a connection of its own."""
    took = 0.0
    for _ in range(times):
        took += _download(size)
        model.restart()
    took += _download(size)
    return {"attempts": times + 1, "lost": 0, "bytes": (times + 1) * size / took / 1e6}


def _browse() -> dict[str, float]:
    """The page's script puts into the title how much it got.  Raises RuntimeError."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                *(program("chromium"), "--headless", "--no-sandbox", "--disable-gpu"),
                *(f"--user-data-dir={folder}", "--virtual-time-budget=5000", "--dump-dom", _URL),
            ],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    if "<title>1000000 more</title>" not in done.stdout:
        raise RuntimeError(f"chromium ended with {done.returncode} and showed {done.stdout[:200]}")
    return {"attempts": 2, "lost": 0}


def _wrk(connections: int, seconds: float, *more: str) -> dict[str, float]:
    argv = [program("wrk"), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    return wrk([*argv, *more, f"{_URL}10"], seconds)


def wrk(argv: list[str], seconds: float) -> dict[str, float]:
    """Requests, how many a second, the 99th percentile, and errors of any kind.

    Raises RuntimeError when wrk fails.
    """
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60, check=False)
    requests = re.search(r"(\d+) requests in ([\d.]+)s", done.stdout)
    if done.returncode or requests is None:
        raise RuntimeError(f"wrk ended with {done.returncode}: {done.stdout}{done.stderr}")
    errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", done.stdout)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    slowest = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", done.stdout)
    lost = sum(map(int, errors.groups())) if errors else 0
    found = {
        "attempts": float(requests[1]),
        "rate": int(requests[1]) / float(requests[2]),
        "lost": lost + (int(refused[1]) if refused else 0),
    }
    if slowest:
        found["p99_ms"] = float(slowest[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[slowest[2]]
    return found


CASE = Case(
    "model-clients",
    "The model serves curl, chromium and wrk",
    "`segue lab serve` behind a TUN interface. Every byte of a file is compared; *lost* are wrk's"
    " errors of any kind. The client's half of the kernel's work is done when the model writes a"
    " packet, so it is in the model's share of a core.",
    measure,
    (
        Column("attempts", "requests", "sum", 0),
        Column("rate", "requests/s", digits=0),
        Column("bytes", "MB/s"),
        Column("lost", "lost", digits=0),
        Column("p99_ms", "p99 ms"),
        Column("restarts", "restarts", digits=0),
        Column("migrated", "migrated", digits=0),
        Column("cpu", "% of a core", digits=0),
    ),
    quick={"megabytes": 10, "restarts": 4, "seconds": 4.0},
)
