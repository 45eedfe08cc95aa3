"""Clients that keep connections, many in one process: python -m bench.keeping.

HOST PORT SOURCE COUNT, from 127.0.SOURCE.1 on.

Each asks once and is idle then.  A number on standard input, N, makes one connection of each
server process ask again, for an answer after N seconds.  When standard input closes, one line of
JSON says what became of the connections.  A source address has no more than 10,000 of them, since
its ports are limited.
"""

from __future__ import annotations

import json
import select
import socket
import sys

_EACH = 10_000
_AT_ONCE = 200  # under way: the accept queues must hold them
_WAITS = 20.0  # seconds, for any answer


class Keeping:
    """So many connections, each with the process that answered it."""

    def __init__(self, host: str, port: int, source: int) -> None:
        self._where, self._source = (host, port), source
        self._epoll = select.epoll()
        self._open: dict[int, socket.socket] = {}
        self._pid: dict[int, bytes] = {}
        self._asked: set[int] = set()
        self.made = self.ended = self.reset = self.unanswered = 0

    def make(self, count: int) -> None:
        """Connect and be answered.  Raises TimeoutError, OSError."""
        while self.made < count:
            for _ in range(min(_AT_ONCE, count - self.made)):
                one = socket.socket()
                one.bind((f"127.0.{self._source}.{1 + self.made // _EACH}", 0))
                one.settimeout(_WAITS)
                one.connect(self._where)
                self._open[one.fileno()] = one
                self._epoll.register(one, select.EPOLLIN)
                self._ask(one, 0)
                self.made += 1
            self._await_answers()

    def again(self, seconds: float) -> int:
        """One connection of each process asks for an answer later; how many do."""
        self._take(0)
        one_each = {pid: number for number, pid in self._pid.items()}
        for number in one_each.values():
            self._ask(self._open[number], seconds)
        return len(one_each)

    def _ask(self, one: socket.socket, seconds: float) -> None:
        self._asked.add(one.fileno())
        one.send(f"GET /{seconds:g} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def _await_answers(self) -> None:
        while self._asked:
            if not self._take(_WAITS):
                raise TimeoutError(f"{len(self._asked)} requests without an answer")

    def _take(self, seconds: float) -> int:
        ready = self._epoll.poll(seconds)
        for number, _ in ready:
            if number != sys.stdin.fileno():
                self._read(number)
        return len(ready)

    def _read(self, number: int) -> None:
        try:
            data = self._open[number].recv(4096)
            self.ended += not data
        except ConnectionResetError:
            data = b""
            self.reset += 1
        if data:
            self._asked.discard(number)
            self._pid[number] = data.rsplit(b"\r\n", 1)[-1].strip()
            return
        self.unanswered += number in self._asked
        self._asked.discard(number)
        self._pid.pop(number, None)
        self._open.pop(number).close()

    def obey(self) -> None:
        """Until standard input closes."""
        self._epoll.register(sys.stdin, select.EPOLLIN)
        while True:
            ready = self._epoll.poll()
            for number, _ in ready:
                if number == sys.stdin.fileno():
                    line = sys.stdin.readline()
                    if not line:
                        return
                    print(self.again(float(line)), flush=True)
                elif number in self._open:
                    self._read(number)


def main() -> None:
    """Make them, say so, obey, and tell."""
    host, port, source, count = sys.argv[1:]
    keeping = Keeping(host, int(port), int(source))
    keeping.make(int(count))
    print("made", flush=True)
    keeping.obey()
    names = ("made", "ended", "reset", "unanswered")
    print(json.dumps({name: getattr(keeping, name) for name in names}), flush=True)


if __name__ == "__main__":
    main()
