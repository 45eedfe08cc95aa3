"""An ASGI application whose answers take up to a tenth of a second, with and without Draining."""

from __future__ import annotations

import asyncio
import random

from examples.hello import Receive, Scope, Send, app

from segue.asgi import Draining

_LONGEST_SECONDS = 0.1


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """The hello application, later."""
    if scope["type"] == "http":
        await asyncio.sleep(random.random() * _LONGEST_SECONDS)
    await app(scope, receive, send)


draining = Draining(plain)
