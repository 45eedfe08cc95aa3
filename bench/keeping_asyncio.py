"""A server without a framework that keeps connections: asyncio, on descriptor 3.

Once it drains, it closes each with its next answer, and says that in the answer.
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
                await reader.readuntil(b"\r\n\r\n")
            last = draining()
            fields = "Content-Length: 3\r\n" + "Connection: close\r\n" * last
            writer.write(f"HTTP/1.1 200 OK\r\n{fields}\r\nok\n".encode())
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


if __name__ == "__main__":
    raise SystemExit(main(answer))
