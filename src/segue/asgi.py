"""``app = Draining(app)``: an ASGI server lets go of kept connections before it is stopped.

A kept HTTP/1.1 connection that its server closes while idle may meet the client's next request
half way, and that request is lost.  Where kept connections can be carried, this middleware says
which of them are between two requests, and they go to the next worker (docs/CARRY.md).  Elsewhere
RFC 9112 section 9.6 has the cure: say ``Connection: close`` with an answer, and the client sends
nothing more.  Once the worker drains, this middleware says it with the next answer on each
connection.

What the servers make of the field (each is tested with its release):
    uvicorn (h11 and httptools), hypercorn, granian   pass it on and close after the answer
    gunicorn's own ASGI worker   passes it on; leaves the closing to the client, at most for its
                                 keep-alive timeout (2 s by default)

Left alone: HTTP/2 and HTTP/3, which forbid the field and have GOAWAY, and WebSockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from segue.worker import Marks, draining, marks

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Fields = Iterable[tuple[bytes, bytes]]


class Draining:
    """ASGI middleware; it changes nothing until the worker drains.

    Place it outermost.  Of an answer that is made outside of it, it knows nothing.

    An answer that began before the worker drained keeps its connection; the one after it does not.
    """

    def __init__(self, app: Application) -> None:
        self.app = app
        marks()  # before the first request: a worker that drains without one is carried as well

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope.  Raises what the application raises."""
        # A server that does not tell the version speaks only HTTP/1 (ASGI: it is optional).
        http1 = scope.get("http_version", "1.1").startswith("1")
        if scope["type"] not in {"http", "websocket"} or not http1:
            await self.app(scope, receive, send)
            return
        told = marks()
        if scope["type"] == "http":
            send = _closing(send)
        if told is None:
            await self.app(scope, receive, send)
            return
        await self._marked(told, scope, receive, send)

    async def _marked(self, told: Marks, scope: Scope, receive: Receive, send: Send) -> None:
        """Say of the peer that it is served, and afterwards that it is kept if it is."""
        peer = _peer(scope, receive)
        if peer is None:
            await self.app(scope, receive, send)
            return
        exchange = _Exchange.of(scope)
        where = told.begin(*peer)
        if scope["type"] == "websocket":
            told.lasting(where)

        async def watched_receive() -> Message:
            message = await receive()
            exchange.received(message)
            return message

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start" and _lasts(message):
                told.lasting(where)
            await send(message)
            exchange.sent(message)

        returned = False
        try:
            await self.app(scope, watched_receive, watched_send)
            returned = True
        finally:
            kept = returned and exchange.over
            try:
                # A request that the server has read meanwhile is begun by then: its task is older.
                asyncio.get_running_loop().call_soon(lambda: told.end(where, kept=kept))
            except RuntimeError:  # another kind of loop
                told.end(where, kept=kept)


@dataclass(slots=True)
class _Exchange:
    """A request and its answer, as far as they have gone."""

    asked: bool  # the whole request has come
    stays: bool  # nothing of either says that the connection ends, or becomes another protocol
    trailers: bool = False
    answered: bool = False  # the whole answer has been given to the server

    @classmethod
    def of(cls, scope: Scope) -> _Exchange:
        fields = _named(scope.get("headers", ()))
        length = fields.get(b"content-length", b"0").strip()
        return cls(
            asked=length == b"0" and b"transfer-encoding" not in fields,
            stays=scope["type"] == "http"
            and b"upgrade" not in fields
            and b"close" not in fields.get(b"connection", b"").lower(),
        )

    @property
    def over(self) -> bool:
        """Both are whole, and the connection waits for the next request."""
        return self.asked and self.answered and self.stays

    def received(self, message: Message) -> None:
        if message["type"] == "http.request" and not message.get("more_body", False):
            self.asked = True

    def sent(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            said = _named(message.get("headers", ())).get(b"connection", b"")
            self.stays &= message["status"] != 101 and b"close" not in bytes(said).lower()
            self.trailers = message.get("trailers", False)
        elif kind == "http.response.body":
            self.answered = not message.get("more_body", False) and not self.trailers
        elif kind == "http.response.trailers":
            self.answered = not message.get("more_trailers", False)
        elif kind == "http.response.pathsend":
            self.answered = not self.trailers


def _lasts(start: Message) -> bool:
    """Whether this begins an answer that has no end of its own."""
    kind = bytes(_named(start.get("headers", ())).get(b"content-type", b""))
    return start["status"] == 101 or kind.lower().startswith(b"text/event-stream")


def _named(fields: Fields) -> dict[bytes, bytes]:
    return {bytes(name).lower(): value for name, value in fields}


def _closing(send: Send) -> Send:
    async def closing_send(message: Message) -> None:
        if message["type"] == "http.response.start" and draining():
            fields = message.get("headers", ())
            kept = [field for field in fields if bytes(field[0]).lower() != b"connection"]
            message = {**message, "headers": [*kept, (b"connection", b"close")]}
        await send(message)

    return closing_send


def _peer(scope: Scope, receive: Receive) -> tuple[str, int] | None:
    """The other end of the connection, if it is in the clear; None if that cannot be told.

    uvicorn's own middleware for proxies writes another client and scheme into the scope, and it is
    outside of every application.  Its ``receive`` belongs to an object that has the transport.
    """
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is not None:
        if transport.get_extra_info("sslcontext") is not None:
            return None
        peer = transport.get_extra_info("peername")
    else:
        if scope.get("scheme", "http") not in {"http", "ws"}:
            return None  # its keys are this worker's
        peer = scope.get("client")
    if not isinstance(peer, tuple | list) or len(peer) < 2:
        return None  # of a Unix socket
    host, port = peer[0], str(peer[1])  # granian's is a string
    return (host, int(port)) if isinstance(host, str) and port.isdecimal() else None
