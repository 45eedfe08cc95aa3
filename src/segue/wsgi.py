"""``app = Draining(app)``: a WSGI server lets go of kept connections before it is stopped.

A kept HTTP/1.1 connection that its server closes while idle may meet the client's next request
half way, and that request is lost.  RFC 9112 section 9.6 has the cure: say ``Connection: close``
with an answer, and the client sends nothing more.  Once the worker drains, this middleware says it
with the next answer on each connection.

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

import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Protocol

from segue.worker import draining

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

        return self.app(environ, closing_start_response)


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
