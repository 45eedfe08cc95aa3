"""An ASGI application whose answers come in pieces, with pauses of up to ``?S`` seconds.

That to a POST pauses until the body of the request has come.
"""

from __future__ import annotations

import asyncio
import os
import random

from examples.hello import Receive, Scope, Send, lifespan

from segue.asgi import Draining

PIECES = 5


async def pausing(scope: Scope, receive: Receive, send: Send) -> None:
    """The process's number, so many times."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    longest = float(scope["query_string"] or b"0")
    await asyncio.sleep(random.random() * longest)
    word = b"%010d\n" % os.getpid()
    headers = [(b"content-length", b"%d" % (len(word) * PIECES)), (b"x-pid", word.strip())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for left in reversed(range(PIECES)):
        await send({"type": "http.response.body", "body": word, "more_body": left > 0})
        if scope["method"] == "POST" and left == PIECES - 1:
            while (await receive()).get("more_body"):
                pass
        await asyncio.sleep(random.random() * longest)


app = Draining(pausing)
