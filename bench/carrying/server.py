"""A server that says of each connection what it is doing: python -m bench.carrying.server L P.

``L`` is the descriptor of a listener, ``P`` that of a page with a word for each port of a client
(``telling.Mark``).  What it was doing when a connection ended it prints, with the connection's
number.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import sys
from itertools import pairwise

from bench.carrying.telling import PORTS, WORD, Doing, Mark, Plan, read_head

_AT_ONCE = 1 << 18


class Connection:
    """One, from its accept on."""

    def __init__(self, made: socket.socket, words: memoryview, serial: int) -> None:
        self._made, self._words, self._serial = made, words, serial
        self._port = made.getpeername()[1]
        self._buffer = b""
        self._doing = Doing.IDLE
        self._say(Doing.IDLE)

    def _say(self, doing: Doing) -> None:
        self._doing = doing
        self._words[self._port] = Mark(self._serial, self._made.fileno(), doing).word()

    async def serve(self) -> None:
        """Until its end, which is said."""
        with self._made:
            try:
                while await self._one():
                    self._say(Doing.READING if self._buffer else Doing.IDLE)
            except (OSError, ValueError, IndexError):  # also: half a request, which was carried
                self._doing = Doing.BROKEN
            # Another server may have the connection by now, but in a page of its own.
            self._words[self._port] = 0
        os.write(1, f"{self._serial} {self._doing}\n".encode())

    async def _one(self) -> bool:
        """A request and its answer; False at the end."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if not await self._more():
                return False
        plan, length, waits = read_head(self._buffer[:end] + b"\r\n")
        self._buffer = self._buffer[end + 4 :]
        if waits:
            await self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._say(Doing.CONTINUED)
        while len(self._buffer) < length:
            if not await self._more():
                return False
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        self._say(Doing.WORKING)
        if plan.hint:
            await self._send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            self._say(Doing.CONTINUED)
        await asyncio.sleep(plan.work_us / 1e6)
        await self._answer(plan, body)
        return True

    async def _more(self) -> bool:
        data = await asyncio.get_running_loop().sock_recv(self._made, _AT_ONCE)
        if data and self._doing is Doing.IDLE:
            self._say(Doing.READING)
        self._buffer += data
        return bool(data)

    async def _answer(self, plan: Plan, body: bytes) -> None:
        """In pieces, of which the first has the head, as servers write."""
        whole = plan.answer(body)
        head = whole.index(b"\r\n\r\n") + 4
        size = -(-(len(whole) - head) // plan.pieces) or 1
        cuts = [0, *range(head + size, len(whole), size), len(whole)]
        for start, end in pairwise(cuts):
            if start:
                self._say(Doing.ANSWERING)
                await asyncio.sleep(plan.pause_us / 1e6)
            await self._send(whole[start:end])

    async def _send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._made, data)


async def accept(listener: socket.socket, words: memoryview) -> None:
    """Serve every connection, for ever."""
    running: set[asyncio.Task[None]] = set()
    serial = 0
    while True:
        made, _ = await asyncio.get_running_loop().sock_accept(listener)
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connection = Connection(made, words, serial := serial + 1)
        except OSError:  # its client has reset it already
            made.close()
            continue
        task = asyncio.create_task(connection.serve())
        running.add(task)
        task.add_done_callback(running.discard)


def main() -> None:
    """Serve until killed."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    listener.setblocking(False)
    with mmap.mmap(int(sys.argv[2]), PORTS * WORD) as page:
        asyncio.run(accept(listener, memoryview(page).cast("Q")))


if __name__ == "__main__":
    main()
