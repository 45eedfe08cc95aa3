"""PyTCP answers HTTP over a TUN interface: ten bytes for each connection, which then ends.

As its own README has it: the stack in this process, its sockets awaited on one asyncio loop.
"""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

from pmd_net_addr import Ip4IfAddr
from pmd_pytcp import stack
from pmd_pytcp.socket import AddressFamily, SocketType, socket

INTERFACE, OURS, THEIRS = "tun3", "10.99.0.1/24", "10.99.0.2/24"
BODY = b"segue segu"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(BODY), BODY)


async def answer(connection: Any) -> None:
    """Read one request, answer it, and end."""
    asked = b""
    try:
        while b"\r\n\r\n" not in asked:
            data = await connection.recv(65536)
            if not data:
                return
            asked += data
        await connection.send(ANSWER)
    except OSError:
        pass  # the client has gone
    finally:
        connection.close()


def add_interface() -> None:
    """A TUN interface between this host and the stack."""
    made = stack.initialize_interface__tun(interface_name=INTERFACE)
    subprocess.run(["ip", "address", "add", OURS, "dev", INTERFACE], check=True)
    subprocess.run(["ip", "link", "set", INTERFACE, "up"], check=True)
    stack.add_interface(**made, ip4_host=Ip4IfAddr(THEIRS), ip4_dhcp=False, ip6_support=False)


async def main() -> None:
    """Until killed."""
    stack.init()
    add_interface()
    await stack.start()
    # It has its address only some time after the start; any address can be bound at once.
    listener: Any = socket(AddressFamily.INET4, SocketType.STREAM)
    listener.bind(("0.0.0.0", 80))
    listener.listen(backlog=1024)
    print("PyTCP listens", flush=True)
    tasks: set[asyncio.Task[None]] = set()
    while True:
        connection, _ = await listener.accept()
        task = asyncio.create_task(answer(connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    asyncio.run(main())
