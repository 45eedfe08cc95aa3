"""A server without a framework: asyncio, on the inherited listener, one request a connection.

It shows all that Segue requires of your own server: serve on descriptor 3 (the first of
LISTEN_FDS), and on SIGTERM stop accepting and finish the accepted connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable

FIRST_INHERITED = 3
REQUEST_LIMIT_S = 5
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read the head of a request, answer it, close."""
    try:
        async with asyncio.timeout(REQUEST_LIMIT_S):
            await reader.readuntil(b"\r\n\r\n")
        pid, generation = os.getpid(), os.environ.get("SEGUE_GENERATION", "")
        body = f"hello from process {pid}, generation {generation or 'unknown'}\n"
        fields = ["Content-Type: text/plain", f"Content-Length: {len(body)}", f"X-Pid: {pid}"]
        if generation:
            fields.append(f"X-Generation: {generation}")
        head = "\r\n".join(["HTTP/1.1 200 OK", *fields, "Connection: close", "", ""])
        writer.write((head + body).encode())
        await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError):
        pass  # the client is gone or does not speak HTTP: no answer is possible
    finally:
        writer.close()
        # The connection ends only when the kernel has the whole answer.
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def serve(listener: socket.socket, answer: Answer = answer) -> None:
    """Accept until SIGTERM or SIGINT, then finish the accepted connections."""
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    # asyncio calls listen() again.  Without this it would reduce the backlog to 100.
    server = await asyncio.start_server(answer, sock=listener, backlog=4096)
    await told_to_stop.wait()
    # A connection that was accepted in the last round of the loop gets its transport in the next
    # one. If the server is closed by then, asyncio drops the connection (Server._attach).
    asyncio.get_running_loop().remove_reader(listener)
    await asyncio.sleep(0)
    server.close()
    # All tasks, not only those of answer(): there is also one between accept() and answer().
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


def main(answer: Answer = answer) -> int:
    """Serve on the inherited listener.  Returns 2 if there is none."""
    if os.environ.get("LISTEN_FDS", "0") == "0":
        sys.stderr.write("no listener was inherited; start this with segue run\n")
        return 2
    asyncio.run(serve(socket.socket(fileno=FIRST_INHERITED), answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
