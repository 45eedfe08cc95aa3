"""What is done on a kernel that was booted, as root and in the project's directory there.

Prints a line of JSON for each step, as soon as it is over; what else is said goes to standard
error.  A step that fails or takes too long says so in its line, and the next one follows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from bench.harness import ROOT, Load, Segue, free_port, steady, wait_until
from bench.kernels import missing
from bench.kernels.wishes import wishes
from bench.killing import kill
from segue.address import Address
from segue.engine import select
from segue.engine.carry_trial import try_carry
from segue.engine.defects import KernelRelease, forbids_migration, unwoken
from segue.engine.loaded import load
from segue.engine.select import EngineChoice
from segue.errors import SegueError
from segue.linux import proc
from segue.observe.snapshot import Observer
from segue.policy.compile import compile_policy
from segue.policy.library import LIBRARY
from segue.probe.result import Result

Step = dict[str, Any]

SERVER = (sys.executable, "-S", "-E", "examples/asyncio_server.py")
QUEUED = 24  # connections to two workers of which one does not accept
_TWICE = 2
_WORKERS = 2
_MOST_RATE = 25.0
_SHARE = 1 / 4
_SETTLE_S = 2.0
_BACK_S = 60.0
# A stopped worker's connections are rescued in fractions of a second, or not before it goes on.
_STALL_S = 6.0
_ANSWERS_S = 30.0
_SLOW = {"LIVE_TEST_RATE": "25", "LIVE_TEST_PATIENCE": "120"}
_SUMMARY = re.compile(r"(\d+) (passed|failed|skipped|error)")


def kernel() -> Step:
    """Which kernel this is."""
    return {"release": platform.release(), "version": platform.version()}


def choice() -> Step:
    """What is chosen here, and whether the live test and the table of versions agree.

    They neither agree nor differ (None) where the version says nothing, or forbids the test.
    """
    chosen = select.choose()
    running = KernelRelease.running()
    trial = None if running and forbids_migration(running) else select.try_migrate()
    agree = None
    if running and trial:
        agree = agreement(running, migrated=trial.migrated, woken=trial.woken)
    return {
        "engine": chosen.engine,
        "nudge": chosen.nudge,
        "reasons": list(chosen.reasons),
        "agree": agree,
    }


def agreement(running: KernelRelease, *, migrated: bool, woken: bool) -> bool | None:
    """The live test's outcome is what the table of versions says of this kernel."""
    if running.version < (5, 14):
        return not migrated
    known = unwoken(running).answer.value
    return None if known not in {"yes", "no"} else migrated and woken == (known == "no")


def policies() -> Step:
    """The library before this kernel's verifier."""
    refused = {}
    for name, one in LIBRARY.items():
        try:
            load(compile_policy(one)).close()
        except SegueError as error:
            refused[name] = str(error)
    return {"policies": len(LIBRARY), "refused": refused}


def carry(chosen: EngineChoice) -> Step:
    """Whether an accepted connection is carried here, and why not, as ``segue doctor`` finds it;
    and what ``segue run`` says to each wish to carry.
    """
    trial = try_carry()
    found = {"carried": trial.migrated, "woken": trial.woken, "why": trial.error}
    return found | {"wishes": wishes(chosen.engine)}


def restarts(chosen: EngineChoice, rate: float) -> Step:
    """Two restarts under load."""
    with _serving(chosen) as server:
        return _under_load(server, rate, server.restart)


def kills(chosen: EngineChoice, rate: float) -> Step:
    """A worker killed under load, twice, the second after the first was replaced."""
    accepted = 0

    def one() -> None:
        nonlocal accepted
        victim = min(server.accepting())
        accepted += kill(victim, Address(server.host, server.port), observer)
        wait_until(
            lambda: victim not in (pids := _pids(server)) and len(pids) == _WORKERS,
            _BACK_S,
            "a successor",
        )

    with _serving(chosen) as server, Observer() as observer:
        found = _under_load(server, rate, one)
    return found | {"accepted": accepted}


def bearable(chosen: EngineChoice) -> float:
    """Connections a second that leave this machine room for restarts: a quarter of what one client
    after another gets, load and server together; at most 25.
    """
    with _serving(chosen) as server:
        load = Load(server.port, "--concurrency", "1", seconds=_SETTLE_S)
        load.process.wait(_BACK_S)
        found = load.stop()
    return min(_MOST_RATE, max(1.0, round(found.rate * _SHARE)))


def _serving(chosen: EngineChoice, *more: str) -> Segue:
    return Segue(list(SERVER), free_port(), engine=chosen.engine, more=more)


def _pids(server: Segue) -> list[int]:
    """Of the workers that serve, as far as the supervisor knows."""
    return [one["pid"] for one in server.status()["workers"] if one["stage"] == "serving"]


def _under_load(server: Segue, rate: float, act: Callable[[], object]) -> Step:
    load = Load(server.port, "--rate", str(rate))
    try:
        for _ in range(_TWICE):
            with steady(_SETTLE_S):
                pass
            act()
        with steady(_SETTLE_S):
            pass
    finally:
        found = load.stop()
    return _seen(found) | {"rate": rate, "said": _alarms(server.log())}


def _seen(found: Result) -> Step:
    kinds = {fate.value: count for fate, count in found.counts.items() if fate.lost and count}
    return {
        "attempts": found.total,
        "lost": found.lost,
        "max_ms": found.max_ms,
        "late_ms": found.late_ms,
        "kinds": kinds,
    }


def _alarms(log: str) -> list[str]:
    """What the supervisor said that is no course of things."""
    words = ("could not", "although", "bug", "refused", "failed")
    return [line for line in log.splitlines() if any(word in line for word in words)]


class Clients:
    """Connections that have sent a request each, and wait."""

    def __init__(self, port: int) -> None:
        self.waiting = selectors.DefaultSelector()
        self.took: list[float] = []
        self.lost = 0
        for _ in range(QUEUED):
            made = socket.create_connection(("127.0.0.1", port), timeout=10)
            made.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.waiting.register(made, selectors.EVENT_READ)
        self.since = time.monotonic()

    def hear(self, seconds: float) -> None:
        """Until everybody has an answer, or the time is over."""
        end = time.monotonic() + seconds
        while self.waiting.get_map() and time.monotonic() < end:
            for key, _ in self.waiting.select(0.2):
                made = key.fileobj
                assert isinstance(made, socket.socket)
                self.waiting.unregister(made)
                answered = b""
                with contextlib.suppress(OSError):
                    answered = made.recv(4096)
                made.close()
                if answered:
                    self.took.append(time.monotonic() - self.since)
                else:
                    self.lost += 1

    def found(self) -> Step:
        """How many were answered so far, and after how long at most."""
        longest = round(max(self.took, default=0.0) * 1e3, 1)
        return {"asked": QUEUED, "answered": len(self.took), "longest_ms": longest}

    def end(self) -> Step:
        """Who has no answer yet is lost; and nobody waits any more."""
        left = [key.fileobj for key in self.waiting.get_map().values()]
        for made in left:
            assert isinstance(made, socket.socket)
            made.close()
        self.waiting.close()
        return {"lost": self.lost + len(left)}


def stall(chosen: EngineChoice) -> Step:
    """One of two workers is stopped, and connections come; later it goes on."""
    with _serving(chosen) as server:
        wait_until(lambda: len(_pids(server)) == _WORKERS, _BACK_S, "two workers")
        victim = min(server.accepting())
        os.kill(victim, signal.SIGSTOP)
        try:
            clients = Clients(server.port)
            clients.hear(_STALL_S)
            found = clients.found()
        finally:
            os.kill(victim, signal.SIGCONT)
        clients.hear(_ANSWERS_S)
        return found | clients.end()


def queue(chosen: EngineChoice) -> Step:
    """One of two workers is stopped, connections come, and it is killed: who answers its queue?"""
    with _serving(chosen, "--rescue", "off") as server:
        wait_until(lambda: len(_pids(server)) == _WORKERS, _BACK_S, "two workers")
        victim = min(server.accepting())
        os.kill(victim, signal.SIGSTOP)
        clients = Clients(server.port)
        clients.hear(1.0)
        os.kill(victim, signal.SIGKILL)
        clients.since = time.monotonic()
        clients.hear(_ANSWERS_S)
        return clients.found() | clients.end()


def tests(where: str, limit: float) -> Step:
    """A folder of the suite, for at most so many seconds."""
    begun = time.monotonic()
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rfE", where]
    running = subprocess.Popen(
        [*argv, "--timeout", "480", "--durations", "15"],
        cwd=ROOT,
        env={**os.environ, **_SLOW},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    in_time = True
    try:
        said, _ = running.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        in_time = False
        tree = proc.tree(running.pid)
        running.send_signal(signal.SIGINT)
        try:
            said, _ = running.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            running.kill()
            said, _ = running.communicate()
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    print(said, file=sys.stderr)
    return summary(said) | {"in_time": in_time, "seconds": round(time.monotonic() - begun)}


def summary(said: str) -> Step:
    """What pytest's last words count, and the names of the tests that failed."""
    lines = said.strip().splitlines() or [""]
    counted = {word: int(number) for number, word in _SUMMARY.findall(lines[-1])}
    failures = [line[:300] for line in lines if line.startswith(("FAILED ", "ERROR "))]
    failed = counted.get("failed", 0) + counted.get("error", 0)
    return {
        "passed": counted.get("passed", 0),
        "failed": failed,
        "skipped": counted.get("skipped", 0),
        "failures": failures,
    }


def main(args: list[str]) -> None:
    """Every step that was asked for, in turn."""
    reader = argparse.ArgumentParser(prog="python -m bench.kernels.inside")
    reader.add_argument("steps", nargs="+")
    reader.add_argument("--rate", type=float)
    reader.add_argument("--limit", type=float, required=True)
    asked = reader.parse_args(args)
    chosen: list[EngineChoice] = []

    def engine() -> EngineChoice:
        if not chosen:
            chosen.append(select.choose())
        return chosen[0]

    def rate() -> float:
        if asked.rate is None:
            asked.rate = bearable(engine())
        found: float = asked.rate
        return found

    known: dict[str, Callable[[], Step]] = {
        "kernel": kernel,
        "choice": choice,
        "policies": policies,
        "carry": lambda: carry(engine()),
        "restarts": lambda: restarts(engine(), rate()),
        "kills": lambda: kills(engine(), rate()),
        "stall": lambda: stall(engine()),
        "queue": lambda: queue(engine()),
        "no-tcp-diag": missing.tcp_diag,
    }
    for name in asked.steps:
        begun = time.monotonic()
        try:
            found = known[name]() if name in known else tests(name, asked.limit)
        except Exception as error:  # noqa: BLE001 - whatever it is, the table says it
            found = {"error": f"{type(error).__name__}: {error}"[:2000]}
        found["took_s"] = round(time.monotonic() - begun, 1)
        print(json.dumps({"step": name, **found}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
