"""Carries at random moments between two servers, and the judgement of each.

A carry was wrong when the server that had the connection was not idle with it (``telling.Doing``):
it says that at the end of the connection, which for one that was carried is the carry's.  Whatever
is lost or doubled on the way, a client sees.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.carrying import clients
from bench.carrying.clients import Habits
from bench.carrying.telling import PORTS, WORD, Doing, Mark
from segue.address import Address
from segue.engine.carry import Carrier
from segue.engine.carry_wish import Report
from segue.engine.migrate import Migrate
from segue.errors import KernelError
from segue.linux import netns, pidfd, sysctl
from segue.linux.sockopt import open_listener

ROOT = Path(__file__).resolve().parents[2]
PORT = 8080
# Few enough to look at all of them often.
_FIRST, _LAST = 20_000, 21_999
_FLIP_EACH = 16  # carries, after which the other way is the way
_END_SECONDS = 30.0
_CARRIED, _WITH_UNREAD = "carried", "carried, with unread bytes"

Carry = Callable[[Carrier, socket.socket, Sequence[socket.socket], int, Mark], Report]


def by_kernel(
    carrier: Carrier, connection: socket.socket, targets: Sequence[socket.socket], owner: int,
    mark: Mark,
) -> Report:  # fmt: skip
    """What the kernel knows decides."""
    del mark
    return carrier.carry(connection, targets, [owner])


RULES: dict[str, Carry] = {"kernel": by_kernel}


@dataclass(slots=True)
class Judged:
    """What became of the attempts; ``wrong`` are carries of connections that were not idle."""

    reports: Counter[str] = field(default_factory=Counter)
    wrong: Counter[Doing] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    asked: int = 0
    connected: int = 0
    seconds: float = 0.0  # of carrying

    @property
    def carried(self) -> int:
        """With what was unread and without."""
        return self.reports[_CARRIED] + self.reports[_WITH_UNREAD]

    def add(self, other: Judged) -> None:
        """Another trial's."""
        self.reports += other.reports
        self.wrong += other.wrong
        self.findings += other.findings
        self.asked += other.asked
        self.connected += other.connected
        self.seconds += other.seconds

    def __str__(self) -> str:
        rows = [f"{count:9,}  {what}" for what, count in self.reports.most_common()]
        pace = self.carried / (self.seconds or 1)
        wrong = [f"{count:9,}  carried while {doing.name}" for doing, count in self.wrong.items()]
        return "\n".join(
            (
                f"{self.carried:,} carries in {self.seconds:,.1f} s, {pace:,.0f} a second",
                f"{self.asked:9,}  requests of clients on {self.connected:,} connections",
                *rows,
                *wrong,
                f"{self.wrong.total():,} carries were wrong, {len(self.findings):,} findings",
            )
        )


class _Server:
    """A process, its page and what it printed."""

    def __init__(self, stack: ExitStack, host: str) -> None:
        self.listener = stack.enter_context(open_listener(Address(host, PORT), backlog=512))
        memory = os.memfd_create("marks")
        stack.callback(os.close, memory)
        os.ftruncate(memory, PORTS * WORD)
        page = stack.enter_context(mmap.mmap(memory, PORTS * WORD))
        self.words = memoryview(page).cast("Q")
        stack.callback(self.words.release)
        self.said = stack.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115 - the stack
        given = [self.listener.fileno(), memory]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.carrying.server", *(str(one) for one in given)],
            pass_fds=given,
            stdout=self.said,
            cwd=ROOT,
        )
        stack.callback(_killed, self.process)
        self.pidfd = stack.enter_context(pidfd.opened(self.process.pid))
        self.carried: dict[int, Doing] = {}  # before it, by the connection's number

    def ends(self) -> dict[int, Doing]:
        """What it was doing with each connection that has ended."""
        self.said.seek(0)
        return {int(serial): Doing(int(doing)) for serial, doing in map(str.split, self.said)}


def _killed(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()


class Trial:
    """To be made in a network namespace of its own, whose ports it narrows."""

    def __init__(self, stack: ExitStack, habits: Habits, host: str = "127.0.0.1") -> None:
        self._chance = random.Random(habits.seed)
        sysctl.write("net.ipv4.ip_local_port_range", f"{_FIRST} {_LAST}")
        self._steering = Migrate()
        stack.callback(self._steering.close)
        self._servers = [_Server(stack, host) for _ in range(2)]
        for slot, one in enumerate(self._servers):
            self._steering.join(slot, one.listener)
        self._steering.share({0: 1.0})
        self._carrier = stack.enter_context(Carrier())
        self._clients = subprocess.Popen(
            clients.command(host, PORT, habits),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        stack.callback(_killed, self._clients)

    def go(self, count: int, seconds: float, carry: Carry = by_kernel) -> Judged:
        """Until so many were carried, or so long; what became of everything."""
        judged, begun = Judged(), time.monotonic()
        # A client that has just been answered is idle for a moment: some are taken then, and
        # others whenever it comes.
        turn = 0
        while judged.carried < count and time.monotonic() - begun < seconds:
            turn += 1
            self._steering.share({turn % 2: 1.0})
            self._some(self._servers[1 - turn % 2], self._servers[turn % 2], judged, carry)
        judged.seconds = time.monotonic() - begun
        self._end(judged)
        return judged

    def _some(self, old: _Server, new: _Server, judged: Judged, carry: Carry) -> None:
        """A few of what one server has, whatever it does with them."""
        there = [word for word in old.words[_FIRST : _LAST + 1] if word]
        if not there:
            time.sleep(0.001)
        for word in self._chance.sample(there, min(len(there), _FLIP_EACH)):
            mark = Mark.of(word)
            with self._duplicate(old, mark) as connection:
                if connection is None:
                    continue
                try:
                    report = carry(self._carrier, connection, [new.listener], old.process.pid, mark)
                except KernelError as error:
                    judged.findings.append(str(error))
                    continue
                what = _WITH_UNREAD if report.unread else str(report)
                judged.reports[what] += 1
                if report.carried:
                    old.carried[mark.serial] = mark.doing
                elif report.refused is None:
                    judged.findings.append(f"{what} (the server was {mark.doing.name})")

    @contextlib.contextmanager
    def _duplicate(self, server: _Server, mark: Mark) -> Iterator[socket.socket | None]:
        """Of the connection that the mark names; None when that has ended."""
        try:
            number = pidfd.getfd(server.pidfd, mark.descriptor)
        except KernelError:
            yield None
            return
        with socket.socket(fileno=number) as connection:
            try:
                word = server.words[connection.getpeername()[1]]
            except OSError:
                word = 0
            same = word and Mark.of(word).serial == mark.serial
            yield connection if same else None

    def _end(self, judged: Judged) -> None:
        said, _ = self._clients.communicate(timeout=2 * _END_SECONDS)
        found = json.loads(said)
        judged.asked, judged.connected = found["asked"], found["connected"]
        judged.findings += found["findings"]
        limit = time.monotonic() + _END_SECONDS
        for server in self._servers:
            while (ends := server.ends()).keys() < server.carried.keys():
                if time.monotonic() > limit:
                    missing = len(server.carried.keys() - ends.keys())
                    judged.findings.append(f"{missing} ends of carried connections were not seen")
                    break
                time.sleep(0.01)
            for serial in server.carried:
                if (doing := ends.get(serial, Doing.IDLE)) is not Doing.IDLE:
                    judged.wrong[doing] += 1


def carried_apart(count: int, seconds: float, habits: Habits, carry: Carry = by_kernel) -> Judged:
    """A whole trial in a namespace that is made for it and goes with it."""
    with netns.fresh(), ExitStack() as stack:
        return Trial(stack, habits).go(count, seconds, carry)
