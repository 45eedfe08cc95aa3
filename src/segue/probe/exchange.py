"""What is said on a connection: the bytes sent, and how to tell that the answer is whole.

Sans-I/O.  HTTP for web servers, plain bytes for any other TCP service.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from segue.errors import UsageError
from segue.probe.http1 import BODY, BODY_SHOWN, ResponseReader
from segue.probe.websocket import FIELDS, WebSocketReader

# Of an upload, sent at once: more would only wait in the socket's buffer.
PIECE = 262144
ZEROS = memoryview(bytes(PIECE))


class Reader(Protocol):
    """Judges the bytes of one answer."""

    @property
    def complete(self) -> bool:
        """The answer is whole; some are from the start, where no byte is expected."""

    @property
    def reusable(self) -> bool:
        """Another request may follow on the same connection."""

    @property
    def closing(self) -> bool:
        """The answer, or the part of it that came, says that the server closes after it."""

    @property
    def surplus(self) -> bytes:
        """What came behind the end of the answer."""

    @property
    def status(self) -> int:
        """The HTTP status, 0 for an answer that has none."""

    def field(self, name: bytes) -> bytes:
        """A header field of the answer, empty where there is none."""

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; True once the answer is whole.  Raises WireError."""

    def eof(self) -> bool:
        """The server has closed; True when the answer is whole."""


class Expect:
    """An answer outside HTTP: whole once ``wanted`` was seen in it; None waits for the close.

    Without wanted bytes (b"") a connection alone is the answer.
    """

    __slots__ = ("_closed", "_seen", "_wanted")

    status = 0
    closing = False
    surplus = b""

    def __init__(self, wanted: bytes | None) -> None:
        self._wanted = wanted
        self._seen = b""
        self._closed = False

    @property
    def complete(self) -> bool:
        """The wanted bytes were seen, or the close when it is the close that is wanted."""
        return self._closed if self._wanted is None else self._wanted in self._seen

    @property
    def reusable(self) -> bool:
        """Another request may follow, unless the close was the answer."""
        return self._wanted is not None

    def field(self, name: bytes) -> bytes:
        """What was read, for ":body"; there are no header fields here."""
        return self._seen[:BODY_SHOWN].strip() if name == BODY else b""

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; True once the wanted ones are among those seen."""
        if self._wanted is not None and not self.complete:
            self._seen += data
        return self.complete

    def eof(self) -> bool:
        """The server has closed; True when that or nothing more was wanted."""
        self._closed = True
        return self.complete


@dataclass(frozen=True, slots=True)
class Upload:
    """A body sent slowly: so many equal pieces, one every ``every_s``; the last may be shorter."""

    size: int
    seconds: float

    def __post_init__(self) -> None:
        if not (0 < self.size <= 1 << 40 and 0 <= self.seconds < 1e6):
            raise UsageError(f"{self.size} bytes in {self.seconds} s are no upload")

    @property
    def pieces(self) -> int:
        """Ten a second look like a slow client; without a time, as many as fit memory."""
        return min(self.size, max(1, round(self.seconds * 10), -(-self.size // PIECE)))

    @property
    def every_s(self) -> float:
        """Between two pieces."""
        return self.seconds / self.pieces

    def piece(self, left: int) -> memoryview:
        """The next piece, when so many are left."""
        before = self.size * (self.pieces - left) // self.pieces
        return ZEROS[: self.size * (self.pieces - left + 1) // self.pieces - before]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and the reader for its answer.  ``keep_alive`` says what the request asks for.

    ``upload`` is the body that follows the request.  ``held`` is a WebSocket: after the first
    answer its reader goes on reading, and says what is asked next.
    """

    request: bytes
    reader: Callable[[], Reader]
    keep_alive: bool
    upload: Upload | None = None
    held: bool = False


def http(
    host: str,
    path: str = "/",
    *,
    method: str = "GET",
    keep_alive: bool = False,
    fields: tuple[tuple[str, str], ...] = (),
    keep_body: bool = False,
    upload: Upload | None = None,
) -> Exchange:
    """An HTTP/1.1 request, without a body unless there is an upload.

    Raises UsageError when the path does not begin with "/" or something has a space or a line
    break where HTTP has none.
    """
    if not path.startswith("/"):
        raise UsageError(f"the path {path!r} must begin with /")
    lines = [("Host", host), ("User-Agent", "segue-probe"), ("Accept", "*/*"), *fields]
    if upload is not None:
        lines.append(("Content-Length", str(upload.size)))
    if not any(name == "Upgrade" for name, _ in fields):
        lines.append(("Connection", "keep-alive" if keep_alive else "close"))
    words = [method, path, host, *(name for name, _ in fields)]
    if any(not word or not word.isprintable() or " " in word for word in words) or any(
        "\r" in value or "\n" in value for _, value in fields
    ):
        raise UsageError(
            f"{method} {path} for {host} is not an HTTP request: it has a space or a line break"
        )
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines)]
    try:
        request = ("\r\n".join(head) + "\r\n\r\n").encode("latin-1")
    except UnicodeEncodeError as error:
        raise UsageError(f"{method} {path} has characters that HTTP has not: {error}") from None
    reader = partial(ResponseReader, method, keep_body=keep_body)
    return Exchange(request, reader, keep_alive, upload)


def websocket(host: str, path: str = "/") -> Exchange:
    """A WebSocket's handshake, then pings.  Raises UsageError as ``http`` does."""
    opening = http(host, path, keep_alive=True, fields=(*FIELDS, ("Connection", "Upgrade")))
    return Exchange(opening.request, WebSocketReader, keep_alive=True, held=True)


def raw(send: bytes = b"", expect: bytes | None = b"", *, keep_alive: bool = False) -> Exchange:
    """Bytes to send once connected (none, perhaps) and the bytes to wait for; see Expect."""
    return Exchange(send, partial(Expect, expect), keep_alive)
