"""A server without a framework that keeps connections: asyncio, on descriptor 3.

Once it drains, it closes each with its next answer, and says that in the answer.  For /hint/S it
gives a hint first (103), and the answer after S seconds.
"""

from __future__ import annotations

import asyncio
import contextlib

from examples.asyncio_server import main

from segue.worker import draining

_KEPT_SECONDS = 5


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Request after request, until the client ends it or is idle for long."""
    last = False
    ends = (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError)  # and TimeoutError
    with contextlib.suppress(*ends):
        while not last:
            async with asyncio.timeout(_KEPT_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1]
            if path.startswith(b"/hint/"):
                writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n")
                await asyncio.sleep(float(path[6:]))
            last = draining()
            fields = "Content-Length: 3\r\n" + "Connection: close\r\n" * last
            writer.write(f"HTTP/1.1 200 OK\r\n{fields}\r\nok\n".encode())
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


if __name__ == "__main__":
    raise SystemExit(main(answer))
