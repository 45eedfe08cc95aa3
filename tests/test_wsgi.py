"""The WSGI middleware by itself: what it changes, and what it leaves alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
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
