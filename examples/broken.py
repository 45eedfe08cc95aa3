"""An ASGI application that does not start.  EXAMPLE_BROKEN chooses the failure.

``raise`` (the default) raises at import, ``exit`` ends the process with status 7, ``hang`` never
serves, ``unhealthy`` serves and answers every request with 503.
"""

from __future__ import annotations

import os
import signal
import sys

from examples.hello import Receive, Scope, Send, lifespan

how = os.environ.get("EXAMPLE_BROKEN", "raise")
if how == "exit":
    os._exit(7)
if how == "hang":
    sys.stderr.write("hanging on purpose\n")
    while True:
        signal.pause()
if how != "unhealthy":
    raise RuntimeError("this version is broken on purpose")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 503."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
