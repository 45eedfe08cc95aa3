"""The smallest ASGI application.  Its answer names the process and the generation."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def lifespan(receive: Receive, send: Send) -> None:
    """Confirm the start and the end of the server."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 200 to every request."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    pid, generation = os.getpid(), os.environ.get("SEGUE_GENERATION")
    body = f"hello from process {pid}".encode()
    headers = [(b"content-type", b"text/plain"), (b"x-pid", b"%d" % pid)]
    if generation:
        headers.append((b"x-generation", generation.encode()))
        body += f", generation {generation}".encode()
    body += b"\n"
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
