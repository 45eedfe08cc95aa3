"""One connection of the probe: its socket, and how far it has come."""

from __future__ import annotations

import socket
from errno import EINPROGRESS, errorcode

from segue.linux import sockopt
from segue.probe.exchange import Exchange
from segue.probe.fates import Stage
from segue.probe.schedule import Timeouts
from segue.probe.settings import Settings
from segue.probe.tls import Tls, TlsSocket
from segue.probe.websocket import WebSocketReader

STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


class Dialer:
    """Calls the target, from one local address after the other where there are several.

    Raises UsageError when the target's zone is no interface of this machine.
    """

    def __init__(self, settings: Settings) -> None:
        self._family, self._peer = settings.target.family, settings.peer
        self._local = [(host, 0) for host in settings.local]
        # As browsers do: after the last bytes of a handshake a request would wait for their ACK,
        # which a server without session tickets delays.  A request alone never waits: a call saved.
        self._nodelay = bool(settings.tls or settings.exchange.upload)
        self._opened = 0

    def dial(self) -> tuple[socket.SocketType | None, int]:
        """A socket that is connected or connecting; or None, and the errno that says why."""
        sock = None
        try:
            sock = socket.SocketType(self._family, STREAM)
            if self._local:
                sockopt.choose_port_late(sock)
                sock.bind(self._local[self._opened % len(self._local)])
            if self._nodelay:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = sock.connect_ex(self._peer)
        except OSError as error:
            code = error.errno or 0
        self._opened += 1
        if sock is not None and code not in {0, EINPROGRESS}:
            sock.close()
            sock = None
        return sock, code


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
