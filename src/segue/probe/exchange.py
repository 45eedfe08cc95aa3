"""What is said on a connection: the bytes sent, and how to tell that the answer is whole.

Sans-I/O.  HTTP for web servers, plain bytes for any other TCP service.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from segue.errors import UsageError
from segue.probe.http1 import ResponseReader


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
        """The answer says that the server closes now."""

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

    def field(self, name: bytes) -> bytes:  # noqa: ARG002
        """Always empty: there are no header fields here."""
        return b""

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
class Exchange:
    """One request and the reader for its answer.  ``keep_alive`` says what the request asks for."""

    request: bytes
    reader: Callable[[], Reader]
    keep_alive: bool


def http(
    host: str,
    path: str = "/",
    *,
    method: str = "GET",
    keep_alive: bool = False,
    fields: tuple[tuple[str, str], ...] = (),
) -> Exchange:
    """An HTTP/1.1 request without a body.

    Raises UsageError when the path does not begin with "/" or something has a space or a line
    break where HTTP has none.
    """
    if not path.startswith("/"):
        raise UsageError(f"the path {path!r} must begin with /")
    lines = [("Host", host), ("User-Agent", "segue-probe"), ("Accept", "*/*"), *fields]
    lines.append(("Connection", "keep-alive" if keep_alive else "close"))
    words = [method, path, host, *(name for name, _ in fields)]
    if any(not word or not word.isprintable() or " " in word for word in words) or any(
        "\r" in value or "\n" in value for _, value in fields
    ):
        raise UsageError(f"{method} {path} for {host} is no HTTP request: a space or line break")
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines)]
    try:
        request = ("\r\n".join(head) + "\r\n\r\n").encode("latin-1")
    except UnicodeEncodeError as error:
        raise UsageError(f"{method} {path} has characters that HTTP has not: {error}") from None
    return Exchange(request, partial(ResponseReader, method), keep_alive)


def raw(send: bytes = b"", expect: bytes | None = b"", *, keep_alive: bool = False) -> Exchange:
    """Bytes to send once connected (none, perhaps) and the bytes to wait for; see Expect."""
    return Exchange(send, partial(Expect, expect), keep_alive)
