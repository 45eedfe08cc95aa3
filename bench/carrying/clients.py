"""Clients with random tools that check every byte: python -m bench.carrying.clients HOST PORT JSON.

The JSON is a ``Habits``.  They go on until standard input closes; then one line of JSON says what
they asked, and what was wrong.  All the chance is in the seed; the times are the machine's.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

from bench.carrying.telling import Plan

_LINGER_RESETS = struct.pack("ii", 1, 0)
_MOST_FINDINGS = 20
_LARGE = 100_000  # bytes: chunks of these would be most of the work here
_HINTS = (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n")
_WRITES = (*("whole",) * 9, *("pieces",) * 2, *("upload",) * 2, "pipelined", "early", "expect")
_ENDS = ("keep",) * 40 + ("close", "half", "abort")


@dataclass(frozen=True, slots=True)
class Habits:
    """How many there are, and what they ask for at most."""

    seed: int
    clients: int = 24
    think_ms: float = 20.0
    work_ms: float = 5.0
    pause_ms: float = 0.0  # between two pieces of an answer; 0: one piece
    hints: bool = False  # 100 and 103
    patience: float = 20.0  # seconds until an answer that has not come is a finding


class Wrong(Exception):
    """An answer is not the one that was asked for."""


class Client:
    """One, which has one connection at a time."""

    def __init__(self, where: tuple[str, int], habits: Habits, number: int) -> None:
        self._where, self._habits, self._number = where, habits, number
        self._chance = random.Random(f"{habits.seed}:{number}")
        self._serial = number * 1_000_000
        self.asked = self.connected = 0
        self.findings: list[str] = []
        self._told = ""

    async def live(self, over: asyncio.Event) -> None:
        """Connection after connection."""
        while not over.is_set():
            try:
                await self._connection(over)
            except (OSError, Wrong, TimeoutError) as error:
                what = f"{type(error).__name__} {error}"
                self.findings.append(f"client {self._number}: {self._told}: {what}")
                if len(self.findings) >= _MOST_FINDINGS:
                    return

    async def _connection(self, over: asyncio.Event) -> None:
        loop, chance = asyncio.get_running_loop(), self._chance
        with socket.socket(socket.AF_INET6 if ":" in self._where[0] else socket.AF_INET) as made:
            made.setblocking(False)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            slow = chance.random() < 0.1
            if slow:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            if chance.random() < 0.2:
                for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1)):
                    made.setsockopt(socket.IPPROTO_TCP, option, value)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._told = "connect"
            async with asyncio.timeout(self._habits.patience):
                await loop.sock_connect(made, self._where)
            self.connected += 1
            speaking = _Speaking(made, chance, slow=slow)
            while not over.is_set():
                await asyncio.sleep(self._think())
                end = chance.choice(_ENDS)
                if end == "close":
                    return
                if end == "abort":
                    await speaking.say(self._plan(slow=slow).request())
                    await asyncio.sleep(chance.random() * self._habits.work_ms / 500)
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESETS)
                    return
                await self._ask(speaking, slow=slow, last=end == "half")
                if end == "half":
                    return

    def _think(self) -> float:
        chance = self._chance
        if chance.random() < 0.002:
            return 1.1 + chance.random()  # long enough for a probe
        return chance.expovariate(1000 / self._habits.think_ms)

    def _plan(self, *, slow: bool) -> Plan:
        chance, habits = self._chance, self._habits
        self._serial += 1
        self.asked += 1
        size = chance.choice((0, 2, 100, 1448, 20_000, 20_000 if slow else 300_000))
        plan = Plan(
            self._serial,
            int(chance.random() * habits.work_ms * 1000),
            size,
            chunked=chance.choice((0, 0, 50, 8000)) if size < _LARGE else 0,
        )
        if not habits.pause_ms:
            return plan
        return replace(
            plan,
            pieces=chance.choice((1, 1, 2, 3)),
            pause_us=int(chance.random() * habits.pause_ms * 1000),
            hint=int(habits.hints and chance.random() < 0.1),
        )

    async def _ask(self, speaking: _Speaking, *, slow: bool, last: bool) -> None:
        """Something, in some way, and its whole answer; ``last``: half-closed before that."""
        chance = self._chance
        how = chance.choice(_WRITES)
        if how == "expect" and not self._habits.hints:
            how = "whole"
        self._told = f"{how}{', then half-closed' * last}, request {self._serial + 1}"
        body = chance.randbytes(chance.choice((1, 1000, 100_000))) if how == "upload" else b""
        if how == "expect":
            body = b"expected" * 10
        number = chance.randint(2, 4) if how in {"pipelined", "early"} else 1
        asked = [(self._plan(slow=slow), body) for _ in range(number)]
        async with asyncio.timeout(self._habits.patience):
            if how == "early":
                # The next request as soon as a part of the answer before it is there.
                await speaking.say(asked[0][0].request())
                for one, (following, _) in pairwise(asked):
                    await speaking.begun()
                    await speaking.say(following.request())
                    await speaking.answer(*one)
                await speaking.answer(*asked[-1])
                return
            if how == "expect":
                plan = asked[0][0]
                whole = plan.request(body, expect=True)
                await speaking.say(whole[: -len(body)])
                await speaking.begun()
                await speaking.say(body)
            elif how == "pieces":
                await speaking.say_in_pieces(asked[0][0].request())
            else:
                await speaking.say(b"".join(plan.request(body) for plan, _ in asked))
            if last:
                speaking.end()
            for one in asked:
                await speaking.answer(*one)
            if last and await speaking.more():
                raise Wrong("more came behind the answer")


class _Speaking:
    """A connection with what came on it and was not taken yet."""

    def __init__(self, made: socket.socket, chance: random.Random, *, slow: bool) -> None:
        self._made, self._chance, self._slow = made, chance, slow
        self._came = b""

    async def say(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._made, data)

    async def say_in_pieces(self, data: bytes) -> None:
        cuts = sorted(self._chance.randrange(1, len(data)) for _ in range(3))
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            await self.say(data[start:end])
            await asyncio.sleep(self._chance.random() * 0.01)

    def end(self) -> None:
        self._made.shutdown(socket.SHUT_WR)

    async def more(self) -> bool:
        """False at the end."""
        size = self._chance.choice((100, 1000)) if self._slow else 1 << 18
        if self._slow:
            await asyncio.sleep(self._chance.random() * 0.002)
        data = await asyncio.get_running_loop().sock_recv(self._made, size)
        self._came += data
        return bool(data)

    async def begun(self) -> None:
        """Wait for the first bytes of an answer."""
        while not self._came:
            if not await self.more():
                raise Wrong("the connection has ended")

    async def answer(self, plan: Plan, body: bytes) -> None:
        """Take the whole answer.  Raises Wrong."""
        wanted = plan.answer(body)
        while True:
            for hint in _HINTS:
                self._came = self._came.removeprefix(hint)
            partial = any(hint.startswith(self._came) for hint in _HINTS)
            if not partial and not wanted.startswith(self._came[: len(wanted)]):
                raise Wrong(f"wanted {wanted[:60]!r}, got {self._came[:60]!r}")
            if len(self._came) >= len(wanted):
                self._came = self._came[len(wanted) :]
                return
            if not await self.more():
                got = f"{len(self._came)} of {len(wanted)} bytes"
                raise Wrong(f"the connection has ended after {got}")


async def run(where: tuple[str, int], habits: Habits) -> dict[str, object]:
    """All of them, until standard input closes."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, over.set)
    clients = [Client(where, habits, number) for number in range(habits.clients)]
    living = asyncio.gather(*(one.live(over) for one in clients))
    await over.wait()
    asyncio.get_running_loop().remove_reader(sys.stdin)
    with suppress(TimeoutError):
        async with asyncio.timeout(habits.patience):
            await living
    return {
        "asked": sum(one.asked for one in clients),
        "connected": sum(one.connected for one in clients),
        "findings": [text for one in clients for text in one.findings],
    }


def main() -> None:
    """Tell at the end."""
    host, port, habits = sys.argv[1:]
    found = asyncio.run(run((host, int(port)), Habits(**json.loads(habits))))
    print(json.dumps(found), flush=True)


def command(host: str, port: int, habits: Habits) -> list[str]:
    """What starts them."""
    given = json.dumps(asdict(habits))
    return [sys.executable, "-m", "bench.carrying.clients", host, str(port), given]


if __name__ == "__main__":
    main()
