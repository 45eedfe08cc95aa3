"""A server that keeps connections, without a framework; it marks its peers as the middleware does.

To be run by any interpreter, also one that has not Segue installed.  With HOST and PORT it opens a
listener of its own beside others; on SIGUSR1 it closes that, and keeps its connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "src"))

from segue.worker import marks

FIRST_INHERITED = 3
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Pid: %d\r\n\r\nok" % os.getpid()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests without bodies until the client goes."""
    host, port = writer.get_extra_info("peername")[:2]
    told = marks()
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            where = told.begin(host, port) if told else None
            writer.write(ANSWER)
            await writer.drain()
            if told:
                told.end(where, kept=True)
    writer.close()


async def main() -> None:
    """Until SIGTERM."""
    marks()
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    if len(sys.argv) > 1:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((sys.argv[1], int(sys.argv[2])))
    else:
        listener = socket.socket(fileno=FIRST_INHERITED)
    server = await asyncio.start_server(serve, sock=listener, backlog=4096)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, server.close)
    await over.wait()


asyncio.run(main())
