"""The clients of a comparison on Linux: python -m segue.lab.comparing.dialling SETTINGS.

They say that they are ready, wait for the instant at which they begin, and say at the end what
became of every connection.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from segue.lab.comparing import lines
from segue.lab.comparing.chances import chances
from segue.lab.comparing.clients import Clients
from segue.lab.comparing.reading import received
from segue.lab.comparing.settings import PORT, Settings
from segue.lab.scenario import CLIENT, SERVER
from segue.linux import realtime

_REQUEST = b"?\n"


class Dialling:
    """Linux as ``segue.lab.comparing.clients.Network``."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._calls: dict[int, socket.socket] = {}
        self.over = self._loop.create_future()
        self.clients = Clients(settings, self, chances(settings.seed), self._end)

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """As in Network."""
        self._loop.call_later(seconds, do)

    def dial(self, port: int) -> None:
        """As in Network."""
        made = socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.bind((CLIENT, port))
        self._calls[port] = made
        code = made.connect_ex((SERVER, PORT))
        if code not in {0, errno.EINPROGRESS}:
            self._loop.call_soon(self.clients.broken, port)
            return
        self._loop.add_writer(made, self._connected, port, made)

    def _connected(self, port: int, made: socket.socket) -> None:
        self._loop.remove_writer(made)
        if made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.clients.broken(port)
            return
        self._loop.add_reader(made, self._read, port, made)
        self.clients.connected(port)

    def _read(self, port: int, made: socket.socket) -> None:
        data = received(made)
        if data is None:
            return
        if data:
            self.clients.heard(port)
        else:
            self.clients.broken(port)

    def ask(self, port: int) -> None:
        """As in Network.  One that was reset meanwhile says so when it is read."""
        with suppress(OSError):
            self._calls[port].send(_REQUEST)

    def hang_up(self, port: int) -> None:
        """As in Network."""
        made = self._calls.pop(port)
        self._loop.remove_reader(made)
        self._loop.remove_writer(made)
        made.close()

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


async def _dial(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    network = Dialling(settings)
    with realtime.urgent():
        loop.call_at(lines.ready(), network.clients.begin)
        await network.over
    lines.say_ends(network.clients.ends)


def main() -> None:
    """Until every connection has ended."""
    asyncio.run(_dial(lines.settings(sys.argv[1])))


if __name__ == "__main__":
    main()
