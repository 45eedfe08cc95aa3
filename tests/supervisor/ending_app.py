"""An ASGI application with answers that do not end: none of ``/never``, a half of ``/half``.

``/last`` asks for the end of the connection, and has no length.  A WebSocket is opened, and what it
sends is not answered.
"""

from __future__ import annotations

import asyncio
import os

from examples.hello import Receive, Scope, Send, app, lifespan

from segue.asgi import Draining

LONGER_THAN_A_TEST = 600.0


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """As the hello application elsewhere."""
    path = scope.get("path")
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept", "headers": [(b"x-pid", b"%d" % os.getpid())]})
        while (await receive())["type"] != "websocket.disconnect":
            pass
    elif path == "/never":
        await asyncio.sleep(LONGER_THAN_A_TEST)
    elif path == "/half":
        headers = [(b"content-length", b"10")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})
        await asyncio.sleep(LONGER_THAN_A_TEST)
    elif path == "/last":
        headers = [(b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"12345"})
    else:
        await app(scope, receive, send)


marking = Draining(plain)
