"""Accepted sockets go from one worker to another over a unix socket (SCM_RIGHTS), and are adopted
by its asyncio loop, whose connections they are from then on.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from segue.linux import scm_rights
from segue.linux.closing import Closing

_PORT_BYTES = 2


class Handoff(Closing):
    """Both ends; ``adopt`` is called in the loop with the client's port and the socket."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, adopt: Callable[[int, socket.socket], None]
    ) -> None:
        self._loop, self._adopt = loop, adopt
        self._giver, self._taker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._taker.setblocking(False)
        self._waiting: list[tuple[int, socket.socket]] = []
        loop.add_reader(self._taker, self._take)

    def give(self, port: int, connection: socket.socket) -> None:
        """It is passed with others that are given in the same turn of the loop, and closed here."""
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting.append((port, connection))

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for first in range(0, len(waiting), scm_rights.MOST):
            some = waiting[first : first + scm_rights.MOST]
            ports = b"".join(port.to_bytes(_PORT_BYTES, "big") for port, _ in some)
            scm_rights.send(self._giver, ports, [one.fileno() for _, one in some])
            for _, one in some:
                one.close()

    def _take(self) -> None:
        ports, descriptors = scm_rights.receive(self._taker, _PORT_BYTES * scm_rights.MOST)
        for at, descriptor in enumerate(descriptors):
            port = int.from_bytes(ports[_PORT_BYTES * at : _PORT_BYTES * (at + 1)], "big")
            self._adopt(port, socket.socket(fileno=descriptor))

    def close(self) -> None:
        """Of both ends; twice is no error."""
        self._loop.remove_reader(self._taker)
        self._giver.close()
        self._taker.close()
