"""A server whose handler orders its own restart: /deploy answers what ``segue restart`` came to.

/hang never answers, /script starts deploy.sh in a session of its own.  Until the file go-GENERATION
is in the directory that is given, beside deploy.sh, a generation after the first does not serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    said = os.environ["SEGUE_WORKER_NUMBER"]
    if b"/hang" in head:
        await asyncio.Event().wait()
    if b"/script" in head:
        script = Path(sys.argv[1], "deploy.sh")
        await asyncio.create_subprocess_exec("sh", script, start_new_session=True)
    if b"/deploy" in head:
        deploy = await asyncio.create_subprocess_exec(sys.executable, "-m", "segue", "restart")
        said += f" rc {await deploy.wait()}"
    fields = f"Content-Length: {len(said)}\r\nConnection: close"
    with contextlib.suppress(OSError):
        writer.write(f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{said}".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()


async def main(gates: Path) -> None:
    generation = os.environ["SEGUE_GENERATION"]
    while generation != "1" and not (gates / f"go-{generation}").exists():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    server = await asyncio.start_server(answer, sock=socket.socket(fileno=3), backlog=512)
    await told.wait()
    server.close()
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
