"""A WebSocket held open (RFC 6455): the handshake, pings and their pongs, and the close.

Sans-I/O.  Messages are skipped, not kept: what is asked here is whether the connection lives.
Left out: extensions and subprotocols, of which none is offered.
"""

from __future__ import annotations

import base64
import hashlib

from segue.errors import WireError
from segue.probe.http1 import ResponseReader

# RFC 6455 section 1.3.
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# Any 16 bytes will do: a key proves that the server read it, and hides nothing.
KEY = base64.b64encode(b"segue-probe-ping")
FIELDS = (
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", KEY.decode()),
    ("Sec-WebSocket-Version", "13"),
)
ACCEPT = base64.b64encode(hashlib.sha1(KEY + GUID, usedforsecurity=False).digest())
CLOSE, PING, PONG = 0x8, 0x9, 0xA
# A control frame's payload (section 5.5).
CONTROL_LIMIT = 125


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """A client's control frame.

    The mask must be there (section 5.3) and is zero: it guards proxies from scripts, not us.
    """
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


class WebSocketReader:
    """Reads the answer to the handshake, then frames until the connection is closed.

    ``closed`` is the code of the close frame once it came; ``reply`` is what must be sent because
    of what was read, and is emptied by the caller that sends it.
    """

    __slots__ = ("_buffer", "_head", "_pings", "_skip", "_waits", "closed", "reply")

    closing = False
    surplus = b""

    def __init__(self) -> None:
        self._head = ResponseReader()
        self._buffer = b""
        self._skip = self._pings = 0
        self._waits: bytes | None = None
        self.closed = ""
        self.reply = b""

    @property
    def complete(self) -> bool:
        """The handshake is answered and so is the last ping."""
        return self._head.complete and self._waits is None

    @property
    def open(self) -> bool:
        """The server agreed to the upgrade."""
        return self._head.complete and self._head.status == 101

    @property
    def reusable(self) -> bool:
        """A ping may follow."""
        return self.open and not self.closed

    @property
    def status(self) -> int:
        """Of the handshake, 0 for a pong."""
        return 0 if self._pings else self._head.status

    def field(self, name: bytes) -> bytes:
        """A field of the handshake's answer: which version holds the connection."""
        return self._head.field(name)

    def ping(self) -> bytes:
        """The next ping to send; incomplete until its pong comes."""
        self._pings += 1
        self._waits = b"%d" % self._pings
        return frame(PING, self._waits)

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; True once nothing is waited for.  Raises WireError."""
        if not self._head.complete:
            if not self._head.feed(data) or not self.open:
                return self.complete
            if self._head.field(b"sec-websocket-accept") != ACCEPT:
                raise WireError("WebSocket handshake", "is not the answer to our key")
            data = self._head.surplus
        self._buffer += data
        while not self.closed and self._step():
            pass
        return self.complete

    def eof(self) -> bool:
        """The server has closed the connection; what is out stays unanswered."""
        return self._head.eof() and not self.open

    def _step(self) -> bool:
        if self._skip:
            gone = min(self._skip, len(self._buffer))
            self._skip -= gone
            self._buffer = self._buffer[gone:]
            return gone > 0
        if len(self._buffer) < 2:
            return False
        opcode, length = self._buffer[0] & 0x0F, self._buffer[1]
        if length & 0x80 or self._buffer[0] & 0x70:
            raise WireError("WebSocket frame", "is none that a server may send", self._buffer[:16])
        begin = {126: 4, 127: 10}.get(length, 2)
        if len(self._buffer) < begin:
            return False
        size = int.from_bytes(self._buffer[2:begin]) if begin > 2 else length
        if opcode < CLOSE:
            self._buffer, self._skip = self._buffer[begin:], size
            return True
        if size > CONTROL_LIMIT or opcode > PONG:
            raise WireError("WebSocket frame", "is none that a server may send", self._buffer[:16])
        if len(self._buffer) < begin + size:
            return False
        payload = self._buffer[begin : begin + size]
        self._buffer = self._buffer[begin + size :]
        self._control(opcode, payload)
        return True

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            # 1005 stands for a close frame without a code (section 7.4.1).
            self.closed = str(int.from_bytes(payload[:2])) if len(payload) >= 2 else "1005"
            self.reply += frame(CLOSE, payload[:2])
        elif opcode == PING:
            self.reply += frame(PONG, payload)
        elif payload == self._waits:
            self._waits = None
