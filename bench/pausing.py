"""An application whose answers pause where they may: ``app``, and the same with ``Draining``.

The path says what is wanted: /, /head/S, /body/S, /tokens/N/S, /events/N/S, /expect/S,
/download/BYTES, /upload.  A WebSocket gives back what it gets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from examples.hello import Message, Receive, Scope, Send, lifespan

from segue.asgi import Draining

_PIECE = bytes(1 << 16)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer as the path says."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await _websocket(receive, send)
    else:
        _, kind, *given = scope["path"].split("/")
        await _KINDS[kind](receive, send, *(float(one) for one in given))


async def _websocket(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "websocket.send", "text": message["text"]})


async def _start(send: Send, length: int | None = None, kind: bytes = b"text/plain") -> None:
    headers = [(b"content-type", kind)]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _body(send: Send, data: bytes, *, more: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def _at_once(_: Receive, send: Send) -> None:
    await _start(send, 4)
    await _body(send, b"done")


async def _head(_: Receive, send: Send, seconds: float) -> None:
    """A pause before the answer."""
    await asyncio.sleep(seconds)
    await _at_once(_, send)


async def _after_head(_: Receive, send: Send, seconds: float) -> None:
    """The head and a part of the body, a pause, the rest."""
    await _start(send, 8)
    await _body(send, b"half", more=True)
    await asyncio.sleep(seconds)
    await _body(send, b"done")


async def _tokens(_: Receive, send: Send, number: float, seconds: float) -> None:
    """So many pieces of a chunked body, with a pause before each."""
    await _start(send)
    for _token in range(int(number)):
        await _body(send, b" token", more=True)
        await asyncio.sleep(seconds)
    await _body(send, b"")


async def _events(_: Receive, send: Send, number: float, seconds: float) -> None:
    """Server-sent events."""
    await _start(send, kind=b"text/event-stream")
    for _event in range(int(number)):
        await _body(send, b"data: tick\n\n", more=True)
        await asyncio.sleep(seconds)
    await _body(send, b"")


async def _upload(receive: Receive, send: Send) -> None:
    """How much there was."""
    total, more = 0, True
    while more:
        message: Message = await receive()
        total, more = total + len(message.get("body", b"")), message.get("more_body", False)
    said = b"%d" % total
    await _start(send, len(said))
    await _body(send, said)


async def _expect(receive: Receive, send: Send, seconds: float) -> None:
    """A server says 100 when the body is asked for."""
    await asyncio.sleep(seconds)
    await _upload(receive, send)


async def _download(_: Receive, send: Send, size: float) -> None:
    left = int(size)
    await _start(send, left)
    while left > len(_PIECE):
        await _body(send, _PIECE, more=True)
        left -= len(_PIECE)
    await _body(send, _PIECE[:left])


_KINDS: dict[str, Callable[..., Awaitable[None]]] = {
    "": _at_once, "head": _head, "body": _after_head, "tokens": _tokens, "events": _events,
    "upload": _upload, "expect": _expect, "download": _download,
}  # fmt: skip

draining = Draining(app)
