"""Ten minutes with what happens to a service in a year: deploys good and bad, faults, a stop."""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.case import FAULTS, Case, Sample, Tally
from bench.cases.back_to_back import slice_of
from bench.cases.certificate import make_pair, sight
from bench.deployed import Deployed, InFlight, limited_memory
from bench.harness import Load, free_port, steady, wait_until
from bench.rounds import told
from bench.table import LOAD, Column, Row
from segue.address import Address
from segue.linux import proc
from segue.linux.sock_diag import State
from segue.observe.snapshot import Observer, Part
from segue.probe.fates import Fate
from segue.probe.result import Result

_MEMORY_MIB = 700
_PATIENCE = 60.0


@dataclass(slots=True)
class Seen:
    """One event: when it began and ended, and what the instance said of it."""

    name: str
    began: float
    ended: float = 0.0
    accepted: int = 0  # connections that the victim had
    unanswered: int = 0  # of the slow requests that were under way
    over: bool = False  # nobody listens when it is over
    said: str = ""
    wanted: tuple[str, ...] = field(default=())

    @property
    def missing(self) -> list[str]:
        """What should stand in the log, and does not."""
        return [one for one in self.wanted if not re.search(one, self.said)]


class Day:
    """The events, in their order.  Each returns what the log must say of it."""

    def __init__(self, server: Deployed, memory: Path | None) -> None:
        self.server, self.memory = server, memory
        self.accepted = self.unanswered = 0

    def events(self) -> list[tuple[str, Callable[[], tuple[str, ...]]]]:
        """By name."""
        return [
            ("nothing", lambda: ()),
            ("a deploy: link, code, environment", self.deploy),
            ("log rotation: USR1", self.rotate),
            ("a release that does not start", self.broken),
            ("a release that takes 8 s to start", self.slow),
            ("a worker that leaks: --max-rss", self.leak),
            ("a release too large for the memory", self.large),
            ("a worker that hangs: SIGSTOP", self.hang),
            ("a new certificate", self.certificate),
            ("a canary, rolled back", self.canary),
            ("segue reexec", self.reexec),
            ("TERM twice, with requests under way", self.stop),
        ]

    def _serves(self, words: str) -> None:
        wait_until(lambda: self.server.asked() == words, _PATIENCE, f"the answer {words!r}")

    def deploy(self) -> tuple[str, ...]:
        """New code and new environment."""
        self.server.set_colour("green")
        self.server.deploy("two")
        self.server.restart()
        self._serves("two green")
        return (r"generation \d+ runs .*/two\)", r"takes all new connections")

    def rotate(self) -> tuple[str, ...]:
        """As logrotate does it: a new name, and a signal."""
        self.server.log_file.rename(self.server.at / "log.1")
        self.server.process.send_signal(signal.SIGUSR1)
        wait_until(self.server.log_file.exists, _PATIENCE, "a new log file")
        # Something that is said goes into the new one.
        self.server.order("scale", workers=3)
        self.server.order("scale", workers=2)
        return (r"2 workers from now on",)

    def broken(self) -> tuple[str, ...]:
        """It is given up, and the link goes back."""
        self.server.deploy("three", broken=True)
        with contextlib.suppress(RuntimeError):
            self.server.restart()
        self._serves("two green")
        self.server.deploy("two")
        return (r"settings_of_tomorrow", r"generation \d+ .*given up")

    def slow(self) -> tuple[str, ...]:
        """It serves when it is ready."""
        self.server.deploy("four", starts_s=8.0)
        self.server.restart()
        self._serves("four green")
        return (r"is ready after [89]\.|is ready after 1\d\.",)

    def leak(self) -> tuple[str, ...]:
        """The worker that grows is replaced."""
        self.server.deploy("five")
        self.server.restart()
        before = {one["pid"] for one in self.server.status()["workers"]}
        end = time.monotonic() + _PATIENCE
        while before <= {one["pid"] for one in self.server.status()["workers"]}:
            if time.monotonic() > end:
                raise TimeoutError(f"no worker was replaced within {_PATIENCE:g} s")
            self.server.asked("/leak")
        self.server.restart()  # the other one has grown as well
        return (r"--max-rss",)

    def large(self) -> tuple[str, ...]:
        """The kernel ends newcomers and nobody else."""
        if self.memory is None:
            raise RuntimeError("no cgroup limits memory here")
        for pid in (self.server.process.pid, *proc.tree(self.server.process.pid)):
            (self.memory / "cgroup.procs").write_text(str(pid))
        before = {one["pid"] for one in self.server.status()["workers"]}
        self.server.deploy("six", holds_mib=_MEMORY_MIB // 2)
        with contextlib.suppress(RuntimeError):
            self.server.restart()
        after = {one["pid"] for one in self.server.status()["workers"]}
        if not before <= after:
            raise RuntimeError("the kernel ended workers that served")
        self.server.deploy("five")
        return (r"probably for want of memory",)

    def hang(self) -> tuple[str, ...]:
        """Its queue goes to others, and then it is replaced."""
        victim = self.server.accepting()[0]
        os.kill(victim, signal.SIGSTOP)
        wait_until(lambda: proc.threads_stopped(victim), _PATIENCE, "a stopped worker")
        with Observer() as observer:
            where = Address(self.server.host, self.server.port)
            full = observer.snapshot(where, Part.CONNECTIONS).connections
        own = proc.sockets(victim)
        self.accepted = sum(one.inode in own and one.state == State.ESTABLISHED for one in full)
        wait_until(lambda: proc.start_time(victim) is None, _PATIENCE, "the hung worker gone")
        self._settled()
        return (r"does not accept|accepts nothing|stalled",)

    def certificate(self) -> tuple[str, ...]:
        """Every handshake after the restart shows the new one."""
        make_pair(self.server.at)
        self.server.restart()
        if self.server.certificate() != sight(self.server.at):
            raise RuntimeError("the old certificate is shown")
        return (r"takes all new connections",)

    def canary(self) -> tuple[str, ...]:
        """A part of the clients sees it for a while."""
        self.server.deploy("seven")
        self.server.order("restart", canary=20)
        wait_until(lambda: self.server.asked().startswith("seven"), _PATIENCE, "the canary")
        self.server.order("rollback")
        self.server.deploy("five")
        self._settled()
        return (r"gets 20 % of new connections",)

    def reexec(self) -> tuple[str, ...]:
        """The supervisor is exchanged."""
        self.server.order("reexec")
        return (r"new code",)

    def stop(self) -> tuple[str, ...]:
        """As a service manager does it, which repeats itself."""
        with InFlight(self.server, 6) as asking:
            time.sleep(1.0)
            for _ in range(2):
                self.server.process.send_signal(signal.SIGTERM)
                time.sleep(0.2)
            wait_until(lambda: self.server.process.poll() is not None, _PATIENCE, "its end")
        self.unanswered = asking.unanswered
        return (r"stopping",)

    def _settled(self) -> None:
        def settled() -> bool:
            workers = self.server.status()["workers"]
            return [one["stage"] for one in workers] == ["serving"] * 2

        wait_until(settled, _PATIENCE, "two workers that serve, and no others")


def measure(*, minutes: float = 10.0, rate: int = 50) -> list[Row]:
    """Each event, followed by load alone until its part of the time is over."""
    tally = Tally()
    with contextlib.ExitStack() as stack:
        at = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        memory = None
        with contextlib.suppress(RuntimeError):
            memory = stack.enter_context(limited_memory(_MEMORY_MIB))
        more = ("--stall-kill", "3", "--max-rss", "250M", "--stop-delay", "1")
        server = stack.enter_context(Deployed(at, free_port(), *more))
        day = Day(server, memory)
        load = Load(server.port, "--rate", str(rate), "--tls", "--events", seconds=3600.0)
        try:
            events = day.events()
            found = [
                _one(day, name, happens, 60 * minutes / len(events), tally)
                for name, happens in events
            ]
        finally:
            result = load.stop()
    for one in found:
        sample = counted(result, one)
        told(one.name, sample)
        tally.add(one.name, sample)
        if one.missing:
            tally.failed(one.name, RuntimeError(f"the log does not say {one.missing}"))
    return tally.rows()


def _one(
    day: Day, name: str, happens: Callable[[], tuple[str, ...]], seconds: float, tally: Tally
) -> Seen:
    day.accepted = day.unanswered = 0
    tally.expect(name, claims_none=True)
    seen = Seen(name, time.monotonic())
    last = happens == day.stop
    with contextlib.nullcontext() if last else steady(seconds):
        try:
            seen.wanted = happens()
        except FAULTS as error:
            tally.failed(name, error)
    seen.ended, seen.accepted, seen.unanswered = time.monotonic(), day.accepted, day.unanswered
    seen.over, seen.said = last, day.server.logged()
    return seen


def counted(result: Result, seen: Seen) -> Sample:
    """What became of the attempts that were due in the time of this event.

    Who is refused at the end is not lost: nobody listens any more, and a balancer asks another.
    """
    whole = slice_of(result, (seen.name, seen.began, seen.ended, 0))
    kinds = dict(whole.kinds)
    refused = kinds.pop(Fate.REFUSED.value, 0) if seen.over else 0
    measures = {key: value for key, value in whole.measures.items() if key != "restarts"}
    measures |= {
        "seconds": seen.ended - seen.began,
        "lost": float(sum(kinds.values()) + seen.unanswered),
        "accepted": float(seen.accepted),
        "refused": float(refused),
        "causes": float(len(seen.wanted) - len(seen.missing)),
    }
    return Sample(measures, kinds)


def notes(rows: Sequence[Row]) -> list[str]:
    """How to read it, and the sum."""
    lost = sum(math.fsum(row.measures.get("lost", ())) for row in rows)
    accepted = sum(math.fsum(row.measures.get("accepted", ())) for row in rows)
    attempts = sum(math.fsum(row.measures.get("attempts", ())) for row in rows)
    return [
        (
            f"{lost:,.0f} of {attempts:,.0f} lost; {accepted:,.0f} connections were open with the"
            " worker that hung and was killed."
        ),
        (
            "`accepted` counts what the worker that hangs had accepted; `refused` whom nobody"
            " listens for any more at the end; `causes` the sentences that the log must have about"
            " the event, and has."
        ),
    ]


CASE = Case(
    "day",
    "A day of deploys and faults, in ten minutes",
    "uvicorn with TLS, two workers, 50 new connections a second, an open loop. One event after the"
    " other, each followed by load alone.",
    measure,
    (
        Column("seconds", "seconds", digits=0),
        Column("attempts", "attempts", "sum", 0),
        Column("lost", "lost", digits=0),
        Column("accepted", "accepted", digits=0),
        Column("refused", "refused", digits=0),
        Column("causes", "causes", digits=0),
        *(one for one in LOAD if one.measure in {"p50_ms", "p99_ms", "max_ms"}),
    ),
    notes,
    quick={"minutes": 0.5},
)
