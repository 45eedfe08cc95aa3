"""The clients of HTTP/2 that a restart may mislead: what counts as broken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import h2.config
import h2.connection
import h2.events
import pytest
from bench.misleading import Connection, NotBegunError
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError


class Server:
    """The other end of a connection, in memory; ``meets`` is what it does when it is asked."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader()
        self.client = Connection(self.reader, cast("asyncio.StreamWriter", self))
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.h2.initiate_connection()
        self.meets: Callable[[], None] = self.answer
        self.asked = 0  # the last stream

    def write(self, data: bytes) -> None:
        """What the client has written."""
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.asked = event.stream_id or 0
                self.meets()
        self._say()

    def answer(self) -> None:
        """The whole answer to what was asked last."""
        self.h2.send_headers(self.asked, [(":status", "200")])
        self.h2.send_data(self.asked, b"done", end_stream=True)

    def go_away(self, error: int = 0, last: int | None = None) -> None:
        """GOAWAY, and the end of the connection."""
        self.h2.close_connection(error, last_stream_id=last)
        self._say()
        self.reader.feed_eof()

    def _say(self) -> None:
        if data := self.h2.data_to_send():
            self.reader.feed_data(data)


def test_nothing_is_asked_on_a_connection_that_has_ended() -> None:
    """Its end comes while the client thinks, with GOAWAY or without."""

    async def run(ends: Callable[[Server], None]) -> None:
        server = Server()
        await server.client.http2()
        await server.client.http2()
        ends(server)
        with pytest.raises(NotBegunError):
            await server.client.http2()
        assert server.client.over
        assert server.asked == 3

    for ends in (Server.go_away, lambda server: server.reader.feed_eof()):
        asyncio.run(run(ends))


@pytest.mark.parametrize(("last", "found"), [(1, NotBegunError), (3, EOFError)])
def test_what_the_server_has_not_begun_is_not_broken(last: int, found: type[Exception]) -> None:
    """Its number is above the one that GOAWAY says (RFC 9113, section 6.8)."""

    async def run() -> None:
        server = Server()
        await server.client.http2()
        server.meets = lambda: server.go_away(last=last)
        with pytest.raises(found):
            await server.client.http2()
        assert server.asked == 3

    asyncio.run(run())


def test_what_the_server_calls_an_error_is_broken() -> None:
    """A worker that is given a connection of another's does, whatever it has begun."""

    async def run(*, asks: bool) -> None:
        server = Server()
        await server.client.http2()
        server.meets = lambda: server.go_away(ErrorCodes.PROTOCOL_ERROR, last=0)
        if not asks:
            server.meets()
        with pytest.raises(ProtocolError):
            await server.client.http2()

    for asks in (True, False):
        asyncio.run(run(asks=asks))
