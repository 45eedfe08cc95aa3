"""One connection of the probe: its socket, and how far it has come."""

from __future__ import annotations

import socket
from errno import EINPROGRESS

from segue.errors import WireError
from segue.linux import sockopt
from segue.probe.exchange import Exchange
from segue.probe.fates import End, Ended, Stage
from segue.probe.progress import Step, advance
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
        # which a server without session tickets delays; so would a request behind another.  One
        # alone never waits: a call saved.
        self._nodelay = bool(settings.tls or settings.exchange.upload or settings.pace.requests > 1)
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

    Of the requests that go out at once, ``owed`` were begun and are not answered, the oldest of
    them by ``reader``; ``behind`` were not begun.  ``pieces`` of an upload are still to come after
    ``unsent``.  ``surplus`` came together with the answer before.  ``heard`` is how the answer
    begins, as far as it came at once.
    """

    __slots__ = (
        "behind", "broken", "due", "fd", "heard", "interest", "lane", "owed", "pieces", "reader",
        "served", "sock", "stage", "surplus", "unsent", "waits",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.SocketType,
        due: float,
        lane: int,
        exchange: Exchange,
        tls: Tls | None,
        requests: int = 1,
    ) -> None:
        self.sock: socket.SocketType | TlsSocket = TlsSocket(sock, tls) if tls else sock
        self.fd = sock.fileno()
        self.due, self.lane = due, lane
        self.stage = Stage.CONNECTING
        self.served = self.interest = 0
        self.waits: Timeouts[Connection] | None = None
        self.surplus = self.heard = b""
        self.broken: Ended | None = None  # why nothing more can be sent
        self.unsent: bytes | memoryview = b""
        self._begin(exchange, requests)

    @property
    def left(self) -> int:
        """Requests that are not answered."""
        return self.owed + self.behind

    @property
    def writing(self) -> bool:
        """The last request that was begun is not sent to its end."""
        return bool(self.unsent or self.pieces)

    def advance(self, step: Step) -> None:
        """Go to the stage that follows.  Raises IllegalInput for a step that cannot come now."""
        self.stage = advance(self.stage, step)

    def again(self, exchange: Exchange, due: float, requests: int) -> None:
        """The next requests on this connection: a ping, where it is a WebSocket."""
        self.due = due
        if isinstance(self.reader, WebSocketReader):
            self.unsent = self.reader.ping()
            self.owed = 1
        else:
            self._begin(exchange, requests)

    def follow(self, exchange: Exchange) -> None:
        """One request is sent, the next one behind it is to be."""
        self.owed += 1
        self.behind -= 1
        self._write(exchange)

    def nonsense(self, error: WireError) -> Ended:
        """Bytes came that are no answer."""
        if self.stage.asked:
            self.advance(Step.RECEIVED)
        return Ended(End.NONSENSE, str(error))

    def _begin(self, exchange: Exchange, requests: int) -> None:
        self.reader = exchange.reader()
        self.owed, self.behind = 1, requests - 1
        self._write(exchange)

    def _write(self, exchange: Exchange) -> None:
        self.unsent = exchange.request
        self.pieces = exchange.upload.pieces if exchange.upload else 0


def source(sock: socket.SocketType | TlsSocket) -> tuple[str, int] | None:
    """Our end of a connection, None when the kernel does not say any more."""
    try:
        host, port = sock.getsockname()[:2]
    except OSError:
        return None
    return host, port
