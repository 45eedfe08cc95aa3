"""``app = Draining(app)``: an ASGI server lets go of kept connections before it is stopped.

A kept HTTP/1.1 connection that its server closes while idle may meet the client's next request
half way, and that request is lost.  RFC 9112 section 9.6 has the cure: say ``Connection: close``
with an answer, and the client sends nothing more.  Once the worker drains, this middleware says it
with the next answer on each connection.

What the servers make of the field (each is tested with its release):
    uvicorn (h11 and httptools), hypercorn, granian   pass it on and close after the answer
    gunicorn's own ASGI worker   passes it on; leaves the closing to the client, at most for its
                                 keep-alive timeout (2 s by default)

Left alone: HTTP/2 and HTTP/3, which forbid the field and have GOAWAY, and WebSockets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from segue.worker import draining

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Draining:
    """ASGI middleware; place it anywhere, it changes nothing until the worker drains.

    An answer that began before the worker drained keeps its connection; the one after it does not.
    """

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope.  Raises what the application raises."""
        # A server that does not tell the version speaks only HTTP/1 (ASGI: it is optional).
        if scope["type"] != "http" or not scope.get("http_version", "1.1").startswith("1"):
            await self.app(scope, receive, send)
            return

        async def closing_send(message: Message) -> None:
            if message["type"] == "http.response.start" and draining():
                fields = message.get("headers", ())
                kept = [field for field in fields if bytes(field[0]).lower() != b"connection"]
                message = {**message, "headers": [*kept, (b"connection", b"close")]}
            await send(message)

        await self.app(scope, receive, closing_send)
