"""Requests at a fixed rate on kept connections: python -m bench.asking HOST PORT N RATE.

An open loop: each request is due at its time, on a connection by chance, whatever became of the
others.  A connection has one request at a time; one that is due before the answer of the last
waits, and its latency counts from when it was due.  When standard input closes, one line of JSON
says what became of the requests (``bench.thinking.Thoughts``).
"""

from __future__ import annotations

import heapq
import json
import random
import select
import socket
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field

from bench.thinking import Thoughts

_LIMIT_SECONDS = 10.0
_REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(slots=True)
class _Kept:
    """A connection, and the requests that are due on it: the first is under way."""

    socket: socket.socket
    due: deque[float] = field(default_factory=deque)
    got: bytes = b""


class Asking:
    """The connections and what became of their requests."""

    def __init__(self, host: str, port: int, count: int, rate: float) -> None:
        self._where, self._rate = (host, port), rate
        self._epoll = select.epoll()
        self._kept: dict[int, _Kept] = {}
        self._late: list[tuple[float, int]] = []
        self._chance = random.Random(count)
        self.found = Thoughts()
        for _ in range(count):
            self._connect()

    def _connect(self) -> None:
        made = socket.create_connection(self._where, timeout=_LIMIT_SECONDS)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._kept[made.fileno()] = _Kept(made)
        self._epoll.register(made, select.EPOLLIN)

    def run(self) -> None:
        """Until standard input closes, and all that is under way is answered."""
        self._epoll.register(sys.stdin, select.EPOLLIN)
        next_due, over = time.monotonic(), False
        while not over or any(one.due for one in self._kept.values()):
            now = time.monotonic()
            while not over and next_due <= now:
                self._ask(self._chance.choice(list(self._kept)), next_due)
                next_due += 1 / self._rate
            wait = 0.1 if over else max(0.0, next_due - time.monotonic())
            for number, _ in self._epoll.poll(wait):
                if number == sys.stdin.fileno():
                    over = True
                    self._epoll.unregister(number)
                elif number in self._kept:
                    self._read(number)
            self._give_up(time.monotonic())

    def _ask(self, number: int, due: float) -> None:
        one = self._kept[number]
        self.found.asked += 1
        one.due.append(due)
        heapq.heappush(self._late, (due + _LIMIT_SECONDS, number))
        if len(one.due) == 1:
            self._send(number)

    def _send(self, number: int) -> None:
        try:
            self._kept[number].socket.send(_REQUEST)
        except OSError as error:
            self._lost(number, type(error).__name__)

    def _read(self, number: int) -> None:
        one = self._kept[number]
        try:
            data = one.socket.recv(65_536)
        except OSError as error:
            self._lost(number, type(error).__name__)
            return
        one.got += data
        if not data:
            self._lost(number, "closed")
        elif _whole(one.got):
            kept = one.got.startswith(b"HTTP/1.1 200") and b"connection: close" not in (
                one.got.partition(b"\r\n\r\n")[0].lower()
            )
            one.got = b""
            if one.due:
                self.found.latencies_ms.append(1000 * (time.monotonic() - one.due.popleft()))
            if not kept:
                self._lost(number, "told to go")
            elif one.due:
                self._send(number)

    def _lost(self, number: int, why: str) -> None:
        """The connection is over; the next one asks what was due on it and not under way."""
        one = self._kept.pop(number)
        one.socket.close()
        if one.due:
            one.due.popleft()
            self.found.lost[why] += 1
        self.found.asked -= len(one.due)
        self.found.reconnected += 1
        before = set(self._kept)
        self._connect()
        (new,) = set(self._kept) - before
        for due in one.due:
            self._ask(new, due)

    def _give_up(self, now: float) -> None:
        while self._late and self._late[0][0] < now:
            _, number = heapq.heappop(self._late)
            one = self._kept.get(number)
            if one is not None and one.due and one.due[0] < now - _LIMIT_SECONDS:
                self._lost(number, "no answer in time")


def _whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        return body.endswith(b"0\r\n\r\n")
    return len(body) >= int(fields.get(b"content-length", b"0"))


def main() -> None:
    """Say when all are connected, and tell at the end."""
    host, port, count, rate = sys.argv[1:]
    asking = Asking(host, int(port), int(count), float(rate))
    print("connected", flush=True)
    asking.run()
    asking.found.lost = Counter(asking.found.lost)
    print(json.dumps(asdict(asking.found)), flush=True)


if __name__ == "__main__":
    main()
