"""The WSGI middleware by itself: what it changes, and what it leaves alone."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import setup_testing_defaults

import pytest

from segue import wsgi
from segue.wsgi import Draining, Failure, Fields, StartResponse, force_close

FIELDS = [("Content-Length", "2"), ("connection", "keep-alive")]


def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    start_response(environ.get("status", "200 OK"), list(FIELDS))
    return [b"ok"]


class Response:
    """A server's response object whose method is the start_response, as gunicorn's is."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, Fields]] = []
        self.forced = False

    def force_close(self) -> None:
        self.forced = True

    def start_response(
        self, status: str, headers: Fields, exc_info: Failure = None
    ) -> Callable[[bytes], object]:
        self.begun.append((status, headers))
        return bytes


def plain() -> tuple[list[tuple[str, Fields]], StartResponse]:
    """A start_response that leads nowhere, and what it was given."""
    begun: list[tuple[str, Fields]] = []

    def start_response(
        status: str, headers: Fields, exc_info: Failure = None, /
    ) -> Callable[[bytes], object]:
        begun.append((status, headers))
        return bytes

    return begun, start_response


@pytest.fixture
def draining(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi, "draining", lambda: True)


def test_nothing_changes_before_the_worker_drains() -> None:
    """The application's own fields, and no word to the server."""
    response = Response()
    assert list(Draining(app)({}, response.start_response)) == [b"ok"]
    assert response.begun == [("200 OK", FIELDS)]
    assert not response.forced


def test_a_server_that_can_is_told_to_close(draining: None) -> None:
    """Then the field is the server's to write."""
    response = Response()
    assert list(Draining(app)({"SERVER_PROTOCOL": "HTTP/1.1"}, response.start_response)) == [b"ok"]
    assert response.forced
    assert response.begun == [("200 OK", FIELDS)]


def test_any_other_server_is_given_the_field(draining: None) -> None:
    """In place of what the application said of the connection."""
    begun, start_response = plain()
    list(Draining(app)({}, start_response))
    assert begun == [("200 OK", [("Content-Length", "2"), ("Connection", "close")])]
    assert not force_close(start_response)


def test_what_has_its_own_way_to_end_is_left_alone(draining: None) -> None:
    """HTTP/2 forbids the field; after 101 the connection is no longer HTTP."""
    for environ in ({"SERVER_PROTOCOL": "HTTP/2.0"}, {"status": "101 Switching Protocols"}):
        response = Response()
        list(Draining(app)(environ, response.start_response))
        assert not response.forced
        assert response.begun[0][1] == FIELDS


def test_a_server_that_refuses_the_field_gets_the_answer_without_it(draining: None) -> None:
    """The one in wsgiref asserts that no application sends it: the answer comes all the same."""

    def modest(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    out, err = io.BytesIO(), io.StringIO()
    SimpleHandler(io.BytesIO(), out, err, environ).run(Draining(modest))
    assert out.getvalue().startswith(b"HTTP/1.0 200 OK\r\n")
    assert out.getvalue().endswith(b"Content-Length: 2\r\n\r\nok")
    assert err.getvalue() == ""


class Wrapper:
    """A server's own kind of answer, for files."""

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"file"])


def told(
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, Any],
    application: wsgi.Application,
    *,
    reads: bool = True,
) -> list[object]:
    """What the middleware says of the peer, with the moments between."""
    said: list[object] = []

    class Heard:
        """Marks that nobody reads."""

        def begin(self, *peer: object) -> object:
            said.append(peer)
            return "request"

        def lasting(self, where: object) -> None:
            said.append((where, "lasting"))

        def end(self, where: object, *, kept: bool) -> None:
            said.append(kept)

    monkeypatch.setattr(wsgi, "marks", Heard)
    given = {
        "REMOTE_ADDR": "10.0.0.1",
        "REMOTE_PORT": "1000",
        "wsgi.url_scheme": "http",
        "wsgi.file_wrapper": Wrapper,
        **environ,
    }
    _, start_response = plain()
    with contextlib.suppress(ValueError):
        answer = Draining(application)(given, start_response)
        said.append("called")
        if reads:
            list(answer)
        close = getattr(answer, "close", None)
        if close is not None:
            close()
    return said


def test_a_peer_is_kept_once_its_answer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before."""
    assert told(monkeypatch, {}, app) == [("10.0.0.1", 1000), "called", True]


def body(*sizes: int) -> wsgi.Application:
    """An application that reads so much of the request's body, and then answers."""

    def reading(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        for size in sizes:
            environ["wsgi.input"].read(size)
        return app(environ, start_response)

    return reading


def lines(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    list(environ["wsgi.input"])
    return app(environ, start_response)


def broken(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    raise ValueError


def silent(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    return [b"no start_response"]


def closing(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Connection", "close")])
    return [b"ok"]


def file(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"]()  # type: ignore[no-any-return]


FIVE = {"CONTENT_LENGTH": "5"}
CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked"}


@pytest.mark.parametrize(
    ("environ", "application", "kept"),
    [
        ({"CONTENT_LENGTH": ""}, app, True),
        ({"CONTENT_LENGTH": "0"}, app, True),
        (FIVE, body(5), True),
        (FIVE, body(2, 3), True),
        (FIVE, lines, True),
        (FIVE, body(4), False),
        (FIVE, body(0), False),
        (FIVE, app, False),
        (CHUNKED, body(9, 9), True),
        (CHUNKED, lines, True),
        (CHUNKED, body(5), False),
        ({"HTTP_CONNECTION": "Close"}, app, False),
        ({"HTTP_UPGRADE": "websocket"}, app, False),
        ({"status": "101 Switching Protocols"}, app, False),
        ({}, broken, False),
        ({}, silent, False),
        ({}, closing, False),
        ({}, file, False),
    ],
)
def test_a_peer_is_kept_if_both_are_whole(
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, Any],
    application: wsgi.Application,
    kept: bool,
) -> None:
    """The request was read, the answer was given, and the connection goes on."""
    given = {**environ, "wsgi.input": io.BytesIO(b"a\nbcd")}
    said = told(monkeypatch, given, application)
    assert [one for one in said if isinstance(one, bool)] == [kept]


def test_events_have_no_end_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that drains does not wait for it."""

    def events(_: dict[str, Any], start_response: wsgi.StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "Text/Event-Stream")])
        return [b"data: x\n\n"]

    said = told(monkeypatch, {}, events)
    assert said == [("10.0.0.1", 1000), ("request", "lasting"), "called", True]


def test_an_answer_that_is_not_read_to_its_end_is_not_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client has gone."""
    assert told(monkeypatch, {}, app, reads=False)[-1] is False


def test_a_file_is_the_servers_own_kind_of_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would not know one that is wrapped, and send it slowly."""
    monkeypatch.setattr(wsgi, "marks", lambda: None)
    _, start_response = plain()
    environ = {"wsgi.file_wrapper": Wrapper}
    assert isinstance(Draining(file)(environ, start_response), Wrapper)


class Socket:
    """A connection, as gunicorn gives it."""

    def __init__(self, peer: object) -> None:
        self.peer = peer

    def getpeername(self) -> object:
        if isinstance(self.peer, OSError):
            raise self.peer
        return self.peer


@pytest.mark.parametrize(
    ("environ", "peer"),
    [
        ({"wsgi.url_scheme": "https"}, None),
        ({"REMOTE_PORT": ""}, None),
        ({"REMOTE_ADDR": None}, None),
        ({"gunicorn.socket": Socket(("fd::1", 7, 0, 0)), "wsgi.url_scheme": "https"}, ("fd::1", 7)),
        ({"gunicorn.socket": Socket("")}, None),
        ({"gunicorn.socket": Socket(OSError())}, None),
    ],
)
def test_the_peer_is_the_connections(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, Any], peer: object
) -> None:
    """Not what a proxy says of its client; none where TLS may end here, or of a Unix socket."""
    said = told(monkeypatch, environ, app)
    assert said == (["called"] if peer is None else [peer, "called", True])
