"""An ASGI application that answers slowly.

``/slow?ms=500`` answers after 500 ms; ``/stream?parts=5&ms=100`` answers in five parts, 100 ms
apart.  Everything else is answered at once.
"""

from __future__ import annotations

import asyncio
import os
from urllib.parse import parse_qs

from examples.hello import Message, Receive, Scope, Send, lifespan

LIMIT = 60_000


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 200 after the given time, or 400 if the numbers in the query make no sense."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    query = parse_qs(scope["query_string"].decode("latin-1"))
    try:
        ms = number(query, "ms", 0)
        parts = number(query, "parts", 3) if scope["path"] == "/stream" else 1
    except ValueError as error:
        await send(start(400))
        await send({"type": "http.response.body", "body": f"{error}\n".encode()})
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(ms / 1000)
    await send(start(200))
    for part in range(1, parts + 1):
        if part > 1:
            await asyncio.sleep(ms / 1000)
        body = f"part {part} of {parts}\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": part < parts})


def number(query: dict[str, list[str]], name: str, default: int) -> int:
    """A number from the query.  Raises ValueError unless it is from 0 to LIMIT."""
    text = query.get(name, [str(default)])[-1]
    if not (text.isascii() and text.isdigit() and int(text) <= LIMIT):
        raise ValueError(f"{name} must be between 0 and {LIMIT} (got {text!r})")
    return int(text)


def start(status: int) -> Message:
    """The head of a response of unknown length."""
    headers = [(b"content-type", b"text/plain"), (b"x-pid", b"%d" % os.getpid())]
    return {"type": "http.response.start", "status": status, "headers": headers}
