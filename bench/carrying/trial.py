"""Carries at random moments between two servers, and the judgement of each.

A carry was wrong when the server that had the connection was not idle with it (``telling.Doing``):
it says that at the end of the connection, which for one that was carried is the carry's.  Whatever
is lost or doubled on the way, a client sees: a connection that is lost because its client has just
reset it is no finding.
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
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.carrying import clients
from bench.carrying.clients import Habits
from bench.carrying.telling import PORTS, WORD, Doing, Mark
from segue.address import Address
from segue.engine.carry import Carrier
from segue.engine.carry_wish import Report, Wish
from segue.engine.migrate import Migrate
from segue.errors import KernelError
from segue.linux import netns, pidfd, sysctl
from segue.linux.sockopt import open_listener
from segue.observe.carrying import Refusal

ROOT = Path(__file__).resolve().parents[2]
PORT = 8080
# Few enough to look at all of them often.
_FIRST, _LAST = 20_000, 21_999
# A third of the connections, after which the other way is the way.
_SHARE = 3
_BREATH = 0.002  # seconds, for servers that stood still
_END_SECONDS = 30.0
GRACE_SECONDS = 0.05
_CARRIED, _WITH_UNREAD = "carried", "carried, with unread bytes"

Rule = Callable[[socket.socket, "_Server", Mark], Wish]


def by_kernel(connection: socket.socket, server: _Server, mark: Mark) -> Wish:
    """What the kernel knows decides."""
    del server, mark
    return Wish(connection, unread=True)


def by_marks(connection: socket.socket, server: _Server, mark: Mark) -> Wish:
    """The server's own word decides, read while it is stopped."""
    idle = Mark(mark.serial, mark.descriptor, Doing.IDLE).word()
    port = connection.getpeername()[1]

    def refusal() -> Refusal | None:
        return None if server.words[port] == idle else Refusal.OWED

    return Wish(connection, refusal, unread=True)


def by_http(connection: socket.socket, server: _Server, mark: Mark) -> Wish:
    """The rule of HTTP/1.x, as a draining worker asks for it."""
    del server, mark
    return Wish(connection, grace=GRACE_SECONDS, unread=True, turning=True)


def by_notes(connection: socket.socket, server: _Server, mark: Mark) -> Wish:
    """The notes of what clients send, without a look at answers and without a grace."""
    del server, mark
    return Wish(connection, grace=0.0, unread=True)


RULES: dict[str, Rule] = {
    "kernel": by_kernel, "marks": by_marks, "http": by_http, "notes": by_notes,
}  # fmt: skip


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
        self.carried = set[int]()  # connections, by their numbers

    def ends(self) -> dict[int, Doing]:
        """What it was doing with each connection that has ended."""
        self.said.seek(0)
        return {int(serial): Doing(int(doing)) for serial, doing in map(str.split, self.said)}


def _killed(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()


class Trial:
    """To be made in a network namespace of its own, whose ports it narrows."""

    def __init__(
        self,
        stack: ExitStack,
        habits: Habits,
        host: str = "127.0.0.1",
        *,
        answers: bool = False,
    ) -> None:
        self._chance = random.Random(habits.seed)
        self._patience = habits.patience
        sysctl.write("net.ipv4.ip_local_port_range", f"{_FIRST} {_LAST}")
        self._steering = Migrate()
        stack.callback(self._steering.close)
        self._servers = [_Server(stack, host) for _ in range(2)]
        for slot, one in enumerate(self._servers):
            self._steering.join(slot, one.listener)
        self._steering.share({0: 1.0})
        self._carrier = stack.enter_context(Carrier(answers=answers))
        self._clients = subprocess.Popen(
            clients.command(host, PORT, habits),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        stack.callback(_killed, self._clients)

    def go(self, count: int, seconds: float, rule: Rule = by_marks) -> Judged:
        """Until so many were carried, or so long; what became of everything."""
        judged, begun = Judged(), time.monotonic()
        # As segue run does.  Without notes, a server that stands still between its read of a
        # request and its word of it looks idle, if an ACK without data came behind the request.
        if rule is not by_kernel:
            for one in self._servers:
                self._carrier.watch(one.listener)
        # A client that has just been answered is idle for a moment: some are taken then, and
        # others whenever it comes.
        turn = 0
        while judged.carried < count and time.monotonic() - begun < seconds:
            turn += 1
            self._steering.share({turn % 2: 1.0})
            self._some(self._servers[1 - turn % 2], self._servers[turn % 2], judged, rule)
            time.sleep(_BREATH)
        judged.seconds = time.monotonic() - begun
        self._end(judged)
        return judged

    def _some(self, old: _Server, new: _Server, judged: Judged, rule: Rule) -> None:
        """A few of what one server has, whatever it does with them."""
        there = [word for word in old.words[_FIRST : _LAST + 1] if word]
        if not there:
            time.sleep(0.001)
        with ExitStack() as stack:
            wishes: dict[Wish, Mark] = {}
            for word in self._chance.sample(there, -(-len(there) // _SHARE)):
                mark = Mark.of(word)
                connection = self._duplicate(old, mark)
                if connection is not None:
                    stack.enter_context(connection)
                    with contextlib.suppress(OSError):  # its client has reset it
                        wishes[rule(connection, old, mark)] = mark
            reports = self._carrier.batch(list(wishes), [new.listener], [old.process.pid])
            while self._carrier.due is not None:
                time.sleep(max(0.0, self._carrier.due - time.monotonic()))
                reports += self._carrier.settle()
            for report in reports:
                if not report.pending:
                    self._note(report, wishes[report.wish], old, judged)

    def _note(self, report: Report, mark: Mark, old: _Server, judged: Judged) -> None:
        what = _WITH_UNREAD if report.unread else str(report)
        judged.reports[what] += 1
        if report.carried:
            old.carried.add(mark.serial)
        elif report.error is not None:
            judged.findings.append(f"{what} ({report.error}; the server was {mark.doing.name})")

    @staticmethod
    def _duplicate(server: _Server, mark: Mark) -> socket.socket | None:
        """Of the connection that the mark names; None when that has ended."""
        try:
            connection = socket.socket(fileno=pidfd.getfd(server.pidfd, mark.descriptor))
        except KernelError:
            return None
        word = 0
        with contextlib.suppress(OSError):  # it is another's, or has ended
            word = server.words[connection.getpeername()[1]]
        if word and Mark.of(word).serial == mark.serial:
            return connection
        connection.close()
        return None

    def _end(self, judged: Judged) -> None:
        said, _ = self._clients.communicate(timeout=self._patience + _END_SECONDS)
        found = json.loads(said)
        judged.asked, judged.connected = found["asked"], found["connected"]
        judged.findings += found["findings"]
        limit = time.monotonic() + _END_SECONDS
        for server in self._servers:
            while missing := server.carried - (ends := server.ends()).keys():
                if time.monotonic() > limit:
                    judged.findings.append(f"the old server did not see the end of {len(missing)}")
                    break
                time.sleep(0.01)
            for serial in server.carried:
                if (doing := ends.get(serial, Doing.IDLE)) is not Doing.IDLE:
                    judged.wrong[doing] += 1


def carried_apart(count: int, seconds: float, habits: Habits, rule: Rule = by_marks) -> Judged:
    """A whole trial in a namespace that is made for it and goes with it."""
    with netns.fresh(), ExitStack() as stack:
        return Trial(stack, habits, answers=rule is by_http).go(count, seconds, rule)
