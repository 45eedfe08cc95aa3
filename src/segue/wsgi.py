"""``app = Draining(app)``: a WSGI server lets go of kept connections before it is stopped.

A kept HTTP/1.1 connection that its server closes while idle may meet the client's next request
half way, and that request is lost.  Where kept connections can be carried, this middleware says
which of them are between two requests, and they go to the next worker (docs/CARRY.md).  Elsewhere
RFC 9112 section 9.6 has the cure: say ``Connection: close`` with an answer, and the client sends
nothing more.  Once the worker drains, this middleware says it with the next answer on each
connection.

PEP 3333 forbids applications to send the field, as the connection is the server's.  So what helps
is the server's business (each is tested with its release):
    gunicorn (gthread, and the workers built like it)   drops the field; but the start_response it
                hands out belongs to its response, which has force_close(): asked there, gunicorn
                says "Connection: close" itself and closes
    granian     passes the field on and closes
    wsgiref     refuses the field with an AssertionError, as others that hold to the letter do:
                they get the answer without it
    gunicorn's sync worker   never keeps a connection
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol

from segue.page import Place
from segue.worker import Marks, draining, marks

Fields = list[tuple[str, str]]
Failure = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None


class StartResponse(Protocol):
    """PEP 3333's start_response."""

    def __call__(
        self, status: str, headers: Fields, exc_info: Failure = None, /
    ) -> Callable[[bytes], object]:
        """Begin the answer; the callable returned writes to it."""


Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class Draining:
    """WSGI middleware; changes nothing until the worker drains.

    For gunicorn it must be the outermost one: middleware around it that hands on a start_response
    of its own hides gunicorn's, and connections are then kept until gunicorn itself is told to
    stop.
    """

    def __init__(self, app: Application) -> None:
        self.app = app
        marks()  # before the first request: a worker that drains without one is carried as well

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request.  Raises what the application raises."""
        if not str(environ.get("SERVER_PROTOCOL", "HTTP/1.1")).startswith("HTTP/1"):
            return self.app(environ, start_response)

        def closing_start_response(
            status: str, headers: Fields, exc_info: Failure = None, /
        ) -> Callable[[bytes], object]:
            # Not handed on when it is not given: some servers count their arguments.
            failure = [exc_info] if exc_info else []
            # After 101 the connection speaks another protocol, which has its own way to end.
            if not draining() or status.startswith("101") or force_close(start_response):
                return start_response(status, headers, *failure)
            kept = [field for field in headers if field[0].lower() != "connection"]
            try:
                return start_response(status, [*kept, ("Connection", "close")], *failure)
            except AssertionError:
                # PEP 3333: with exc_info the answer begun may be replaced, as nothing is sent.
                return start_response(status, headers, exc_info or sys.exc_info())

        told = marks()
        peer = None if told is None else _peer(environ)
        if told is None or peer is None:
            return self.app(environ, closing_start_response)
        return self._marked(told, peer, environ, closing_start_response)

    def _marked(
        self,
        told: Marks,
        peer: tuple[str, int],
        environ: dict[str, Any],
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        """Say of the peer that it is served, and afterwards that it is kept if it is."""
        exchange = _Exchange(told, told.begin(*peer), environ)

        def watched_start_response(
            status: str, headers: Fields, exc_info: Failure = None, /
        ) -> Callable[[bytes], object]:
            write = start_response(status, headers, *([exc_info] if exc_info else []))
            exchange.started(status, headers)
            return write

        body = exchange.body
        if body is not None:
            environ["wsgi.input"] = body
        try:
            answer = self.app(environ, watched_start_response)
        except BaseException:
            exchange.end(kept=False)
            raise
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(answer, wrapper):
            # The server sends it in its own way, if it is just what the server has made.
            exchange.end(kept=False)
            return answer
        return _Answer(answer, exchange)


class _Body:
    """The request's body, which knows when all of it has been read."""

    def __init__(self, given: Any, length: int | None) -> None:
        self._given, self._left = given, length
        self.whole = False

    def _read(self, data: bytes) -> bytes:
        if self._left is not None:
            self._left -= len(data)
        self.whole = self.whole or self._left == 0
        return data

    def _ends(self, data: bytes, size: int | None) -> bytes:
        self.whole = self.whole or (not data and size != 0)
        return self._read(data)

    def read(self, size: int | None = None, /) -> bytes:
        data = self._given.read() if size is None else self._given.read(size)
        return self._ends(data, size)

    def readline(self, size: int | None = None, /) -> bytes:
        data = self._given.readline() if size is None else self._given.readline(size)
        return self._ends(data, size)

    def readlines(self, hint: int | None = None, /) -> list[bytes]:
        lines = self._given.readlines() if hint is None else self._given.readlines(hint)
        return [self._read(line) for line in lines]

    def __iter__(self) -> Iterator[bytes]:
        for line in self._given:
            yield self._read(line)
        self.whole = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._given, name)


class _Exchange:
    """A request and its answer, as far as they have gone."""

    def __init__(self, told: Marks, where: Place | None, environ: dict[str, Any]) -> None:
        self._told, self._where, self._over = told, where, False
        length = environ.get("CONTENT_LENGTH") or "0"
        self.body: _Body | None = None
        if length != "0" or "HTTP_TRANSFER_ENCODING" in environ:
            known = length.isdecimal() and "HTTP_TRANSFER_ENCODING" not in environ
            self.body = _Body(environ["wsgi.input"], int(length) if known else None)
        asked = str(environ.get("HTTP_CONNECTION", "")).lower()
        self._stays = "close" not in asked and "HTTP_UPGRADE" not in environ
        self._started = False

    def started(self, status: str, headers: Fields) -> None:
        self._started = True
        fields = [(name.lower(), value.lower()) for name, value in headers]
        said = " ".join(value for name, value in fields if name == "connection")
        kind = "".join(value for name, value in fields if name == "content-type")
        upgraded = status.startswith("101")
        self._stays &= not upgraded and "close" not in said
        if upgraded or kind.startswith("text/event-stream"):
            self._told.lasting(self._where)

    def over(self) -> None:
        """The server is through with the answer."""
        read = self.body is None or self.body.whole
        self.end(kept=self._started and self._stays and read)

    def end(self, *, kept: bool) -> None:
        if not self._over:
            self._over = True
            self._told.end(self._where, kept=kept)


class _Answer:
    """The application's, whose close() is the end of it (PEP 3333)."""

    def __init__(self, given: Iterable[bytes], exchange: _Exchange) -> None:
        self._given, self._exchange, self._whole = given, exchange, False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._given
        self._whole = True

    def __len__(self) -> int:
        given: Any = self._given
        return len(given)  # TypeError where the application's has none

    def close(self) -> None:
        try:
            close = getattr(self._given, "close", None)
            if close is not None:
                close()
        except BaseException:
            self._whole = False
            raise
        finally:
            if self._whole:
                self._exchange.over()
            else:
                self._exchange.end(kept=False)


def _peer(environ: dict[str, Any]) -> tuple[str, int] | None:
    """The other end of the connection, if it is in the clear; None if that cannot be told.

    A proxy's fields may have changed the scheme and the address.  gunicorn gives the socket.
    """
    connection = environ.get("gunicorn.socket")
    if connection is not None:
        if isinstance(connection, ssl.SSLSocket):
            return None  # its keys are this worker's
        try:
            peer = connection.getpeername()
        except OSError:
            return None
        return peer[:2] if isinstance(peer, tuple) else None  # else of a Unix socket
    if environ.get("wsgi.url_scheme") != "http":
        return None
    host, port = environ.get("REMOTE_ADDR"), str(environ.get("REMOTE_PORT", ""))
    return (host, int(port)) if isinstance(host, str) and port.isdecimal() else None


def force_close(start_response: StartResponse) -> bool:
    """Ask the server's response object to close after this answer; False where it cannot.

    gunicorn has no other way in: it drops the application's field as hop-by-hop, and nothing in
    its environ leads to the response.  The alternative refused is its pre_request hook, which
    would have to be set in gunicorn's own configuration.
    """
    close = getattr(getattr(start_response, "__self__", None), "force_close", None)
    if close is None:
        return False
    close()
    return True
