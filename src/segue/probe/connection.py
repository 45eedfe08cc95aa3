"""One connection of the probe: its socket, and how far it has come."""

from __future__ import annotations

import socket
from errno import errorcode

from segue.probe.exchange import Exchange
from segue.probe.fates import Stage
from segue.probe.schedule import Timeouts
from segue.probe.tls import Tls, TlsSocket
from segue.probe.websocket import WebSocketReader


class Connection:
    """One socket.  ``waits`` is the limit that runs for it, None while it is kept idle.

    ``pieces`` of an upload are still to come after ``unsent``.
    """

    __slots__ = (
        "due", "fd", "interest", "lane", "pieces", "reader", "served", "sock", "stage", "unsent",
        "waits",
    )  # fmt: skip

    def __init__(
        self, sock: socket.SocketType, due: float, lane: int, exchange: Exchange, tls: Tls | None
    ) -> None:
        self.sock: socket.SocketType | TlsSocket = TlsSocket(sock, tls) if tls else sock
        self.fd = sock.fileno()
        self.due, self.lane = due, lane
        self.stage = Stage.CONNECTING
        self.served = self.interest = 0
        self.waits: Timeouts[Connection] | None = None
        self.begin(exchange)

    def begin(self, exchange: Exchange) -> None:
        """The first request, as on every new connection."""
        self.reader = exchange.reader()
        self.unsent: bytes | memoryview = exchange.request
        self.pieces = exchange.upload.pieces if exchange.upload else 0

    def again(self, exchange: Exchange, due: float) -> None:
        """The next request on this connection: a ping, where it is a WebSocket."""
        self.due = due
        if isinstance(self.reader, WebSocketReader):
            self.unsent = self.reader.ping()
        else:
            self.begin(exchange)


def name_of(code: int) -> str:
    """The symbolic name of an errno."""
    return errorcode.get(code, str(code))


def source(sock: socket.SocketType | TlsSocket) -> tuple[str, int] | None:
    """Our end of a connection, None when the kernel does not say any more."""
    try:
        host, port = sock.getsockname()[:2]
    except OSError:
        return None
    return host, port
