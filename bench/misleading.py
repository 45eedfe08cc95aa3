"""Clients whose connections look idle and are not: python -m bench.misleading HOST PORT KIND|...

A connection each, kept; one exchange after the other.  An exchange is broken when its answer does
not come whole.  A client of HTTP/2 reads what comes at any time, and sends a request again that the
server says it has not begun.  When standard input closes, one line of JSON says for each kind how
many there were, how many were broken, how many of these answers had begun, and how many connections
were closed.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import h2.connection
import h2.events
from h2.exceptions import ProtocolError

from bench.harness import ROOT
from segue.errors import WireError
from segue.probe.exchange import http
from segue.probe.http1 import ResponseReader
from segue.probe.websocket import FIELDS

_CLIENTS = 4  # of each kind
_LIMIT_SECONDS = 40.0
_ENDS_SECONDS = 60.0
_PAUSES = (0.1, 0.1, 0.3, 0.3, 1.0, 1.0, 3.0, 10.0)
_LARGE = 100_000_000
_THINK_SECONDS = 0.3


class NotBegunError(Exception):
    """The server has not begun the request.  It may be sent again (RFC 9113, section 6.8)."""


class Connection:
    """One, from its making to its end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.upgraded = False
        self.over = False  # its server has said that it closes it
        self.began = False  # a part of the answer has come
        self.h2: h2.connection.H2Connection | None = None
        self._last = sys.maxsize  # stream of HTTP/2 that its server has begun, as far as is known

    async def ask(self, method: str, path: str, body: int = 0, *fields: tuple[str, str]) -> None:
        """A request with a body of so many zeros, and its whole answer."""
        self.began = False
        more = (("Content-Length", str(body)), *fields) if body else fields
        expects = any(name == "Expect" for name, _ in fields)
        self.writer.write(http("x", path, method=method, keep_alive=True, fields=more).request)
        if expects:
            await self.reader.readuntil(b"\r\n\r\n")  # the 100
            await asyncio.sleep(random.choice(_PAUSES[:-1]))
        sending = asyncio.create_task(self._send(body))
        try:
            await self._answer(method)
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await sending

    async def _send(self, left: int) -> None:
        while left:
            size = min(left, 1 << 18)
            self.writer.write(bytes(size))
            await self.writer.drain()
            left -= size

    async def _answer(self, method: str) -> None:
        reader = ResponseReader(method)
        while not reader.complete:
            data = await self.reader.read(1 << 18)
            if not data:
                raise EOFError
            self.began = True
            reader.feed(data)
        self.over = not reader.reusable
        if reader.status != 200:
            raise EOFError

    async def websocket(self) -> None:
        """Idle for a while, then a message that comes back."""
        if not self.upgraded:
            fields = (*FIELDS, ("Connection", "Upgrade"))
            self.writer.write(http("x", "/", keep_alive=True, fields=fields).request)
            await self.reader.readuntil(b"\r\n\r\n")
            self.upgraded = True
        await asyncio.sleep(_pause())
        self.writer.write(b"\x81\x85" + bytes(4) + b"hello")
        if await self.reader.readexactly(7) != b"\x81\x05hello":
            raise EOFError

    async def http2(self) -> None:
        """A request with prior knowledge, answered in two parts.

        Raises NotBegunError when its server ends the connection before it has begun the request.
        """
        self.began = False
        if self.h2 is None:
            self.h2 = h2.connection.H2Connection()
            self.h2.initiate_connection()
        else:
            await self._unasked()
        stream = self.h2.get_next_available_stream_id()
        names = {":method": "GET", ":scheme": "http", ":authority": "x"}
        path = f"/body/{_pause()}"
        self.h2.send_headers(stream, [*names.items(), (":path", path)], end_stream=True)
        ended = False
        while not ended:
            events = await self._events(self.h2)
            if self._last < stream:
                raise NotBegunError
            assert not any(isinstance(event, h2.events.StreamReset) for event in events)
            self.began |= any(isinstance(event, h2.events.ResponseReceived) for event in events)
            ended = any(isinstance(event, h2.events.StreamEnded) for event in events)
        self.writer.write(self.h2.data_to_send())

    async def _unasked(self) -> None:
        """Take what came since the last answer.  A client of HTTP/2 always reads."""
        assert self.h2 is not None
        try:
            async with asyncio.timeout(0):
                await self._events(self.h2)
        except TimeoutError:
            return
        except (OSError, EOFError):
            self.over = True
        if self.over:
            raise NotBegunError

    async def _events(self, parser: h2.connection.H2Connection) -> list[h2.events.Event]:
        self.writer.write(parser.data_to_send())
        data = await self.reader.read(1 << 16)
        if not data:
            raise EOFError
        events = parser.receive_data(data)
        for event in events:
            if isinstance(event, h2.events.ConnectionTerminated):
                if event.error_code:
                    raise ProtocolError(f"the server found an error: {event}")
                self.over, self._last = True, event.last_stream_id or 0
        return events


def _pause() -> float:
    return random.choice(_PAUSES)


RESTLESS = "requests without a pause"
KINDS: dict[str, Callable[[Connection], Awaitable[None]]] = {
    "pause before the answer": lambda one: one.ask("GET", f"/head/{_pause()}"),
    "pause in the body": lambda one: one.ask("GET", f"/body/{_pause()}"),
    "token stream": lambda one: one.ask("GET", f"/tokens/{random.randint(10, 60)}/0.05"),
    "token stream, slow": lambda one: one.ask("GET", f"/tokens/{random.randint(3, 8)}/1"),
    "server-sent events": lambda one: one.ask(
        "GET", f"/events/{random.randint(3, 8)}/1", 0, ("Accept", "text/event-stream")
    ),
    "100, then a pause of the client": lambda one: one.ask(
        "POST", f"/expect/{random.random()}", 1000, ("Expect", "100-continue")
    ),
    "103, then a pause": lambda one: one.ask("GET", f"/hint/{_pause()}"),
    "download of 100 MB": lambda one: one.ask("GET", f"/download/{_LARGE}"),
    "upload of 100 MB": lambda one: one.ask("POST", "/upload", _LARGE),
    "idle WebSocket": Connection.websocket,
    RESTLESS: lambda one: one.ask("GET", "/head/0"),
    "HTTP/2 with prior knowledge": Connection.http2,
}


async def _client(
    where: tuple[str, int], kind: str, over: asyncio.Event, found: dict[str, int]
) -> None:
    connection = None
    while not over.is_set():
        with suppress(TimeoutError):
            think = 0.0 if kind == RESTLESS else random.random() * _THINK_SECONDS
            await asyncio.wait_for(over.wait(), think)
            break
        found["exchanges"] += 1
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                if connection is None:
                    connection = Connection(*await asyncio.open_connection(*where))
                await KINDS[kind](connection)
        except NotBegunError:
            found["exchanges"] -= 1  # it is sent again, on another connection
        except (OSError, EOFError, WireError, AssertionError, ProtocolError):
            found["broken"] += 1
            if connection is not None:
                found["begun"] += connection.began
                connection.over = True
        if connection is not None and connection.over:
            found["closed"] += 1
            connection.writer.transport.abort()
            connection = None
    if connection is not None:
        connection.writer.transport.abort()


async def run(where: tuple[str, int], kinds: list[str]) -> dict[str, dict[str, int]]:
    """Until standard input closes."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, over.set)
    found = {kind: {"exchanges": 0, "broken": 0, "begun": 0, "closed": 0} for kind in kinds}
    tasks = [_client(where, kind, over, found[kind]) for kind in kinds for _ in range(_CLIENTS)]
    await asyncio.gather(*tasks)
    return found


class Misleading:
    """The clients, in a process of their own."""

    def __init__(self, host: str, port: int, kinds: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.misleading", host, str(port), "|".join(kinds)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> dict[str, dict[str, int]]:
        """What was found.  Raises TimeoutError when they do not end."""
        try:
            text, _ = self._process.communicate(timeout=_ENDS_SECONDS)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the clients did not end within {_ENDS_SECONDS:g} s") from None
        finally:
            self._process.kill()
            self._process.wait()
        found: dict[str, dict[str, int]] = json.loads(text)
        return found


def main() -> None:
    """Tell at the end."""
    host, port, kinds = sys.argv[1:]
    print(json.dumps(asyncio.run(run((host, int(port)), kinds.split("|")))))


if __name__ == "__main__":
    main()
