"""The ASGI middleware by itself: what it changes, and what it leaves alone."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from segue import asgi
from segue.asgi import Draining, Message, Receive, Scope, Send

FIELDS = [(b"content-length", b"0"), (b"Connection", b"keep-alive")]


def heads(scope: dict[str, Any], before: int = 0) -> list[Message]:
    """What the server is sent when the application answers after ``before`` interim messages."""
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(before):
            await send({"type": "http.response.debug"})
        await send({"type": "http.response.start", "status": 200, "headers": FIELDS})
        await send({"type": "http.response.body"})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    asyncio.run(Draining(app)(scope, receive, send))
    return sent


@pytest.fixture
def draining(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "draining", lambda: True)


def test_nothing_changes_before_the_worker_drains() -> None:
    """The application's own messages, untouched."""
    assert heads({"type": "http", "http_version": "1.1"})[0]["headers"] is FIELDS


def test_an_answer_of_a_draining_worker_says_close(draining: None) -> None:
    """In place of what the application said of the connection; the other fields stay."""
    for scope in ({"type": "http"}, {"type": "http", "http_version": "1.0"}):
        sent = heads(scope, before=1)
        assert sent[0] == {"type": "http.response.debug"}
        assert sent[1]["headers"] == [(b"content-length", b"0"), (b"connection", b"close")]
        assert sent[1]["status"] == 200
        assert sent[2] == {"type": "http.response.body"}
    assert FIELDS[1] == (b"Connection", b"keep-alive")


@pytest.mark.parametrize(
    "scope",
    [{"type": "http", "http_version": "2"}, {"type": "http", "http_version": "3"},
     {"type": "websocket", "http_version": "1.1"}, {"type": "lifespan"}],
)  # fmt: skip
def test_what_has_its_own_way_to_end_is_left_alone(draining: None, scope: dict[str, Any]) -> None:
    """HTTP/2 forbids the field; a WebSocket is closed by its own handshake."""
    assert heads(scope)[0]["headers"] is FIELDS


class Uvicorn:
    """An exchange as uvicorn has one: its receive is a method, and the transport is beside it."""

    def __init__(self, peer: object, tls: object = None) -> None:
        self.transport = self
        self.extra = {"peername": peer, "sslcontext": tls}

    def get_extra_info(self, name: str) -> object:
        return self.extra[name]

    async def receive(self) -> Message:
        return {"type": "http.request", "more_body": False}


def told(
    monkeypatch: pytest.MonkeyPatch,
    scope: dict[str, Any],
    answer: list[Message],
    *,
    reads: bool = False,
    fails: bool = False,
    server: Uvicorn | None = None,
) -> list[tuple[Any, ...]]:
    """What the middleware says of the peer, in its order."""
    said: list[tuple[Any, ...]] = []

    class Heard:
        """Marks that nobody reads."""

        def begin(self, *peer: object) -> object:
            said.append(peer)
            return "request"

        def lasting(self, where: object) -> None:
            said.append((where, "lasting"))

        def end(self, where: object, *, kept: bool) -> None:
            said.append((where, kept))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if reads:
            await receive()
        for message in answer:
            await send(message)
        said.append(("app",))
        if fails:
            raise ValueError

    async def send(message: Message) -> None:
        said.append((message["type"],))

    async def receive() -> Message:
        return {"type": "http.request", "more_body": False}

    async def main() -> None:
        with contextlib.suppress(ValueError):
            await Draining(app)(scope, server.receive if server else receive, send)
        said.append(("returned",))
        await asyncio.sleep(0)

    monkeypatch.setattr(asgi, "marks", Heard)
    asyncio.run(main())
    return [one for one in said if not one[0].startswith("http.")]


START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"x"}
SCOPE = {"type": "http", "http_version": "1.1", "scheme": "http", "client": ("10.0.0.1", 1000)}


def test_a_peer_is_kept_once_its_answer_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the application has returned, and whatever its loop was to do before."""
    said = told(monkeypatch, SCOPE, [START, BODY])
    assert said == [("10.0.0.1", 1000), ("app",), ("returned",), ("request", True)]
    granian = {**SCOPE, "client": ("10.0.0.1", "1000")}
    assert told(monkeypatch, granian, [START, BODY]) == said


EVENTS = {**START, "headers": [(b"Content-Type", b"text/event-stream; charset=utf-8")]}


@pytest.mark.parametrize(
    ("more", "answer"),
    [
        ({}, [EVENTS, BODY]),
        ({}, [{**START, "status": 101}, BODY]),
        ({"type": "websocket", "scheme": "ws"}, []),
    ],
)
def test_what_has_no_end_of_its_own_is_told(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], answer: list[Message]
) -> None:
    """A worker that drains waits for no such thing."""
    said = told(monkeypatch, {**SCOPE, **more}, answer)
    assert said[1:3] == [("request", "lasting"), ("app",)]


@pytest.mark.parametrize(
    ("more", "answer", "given"),
    [
        ({}, [START], {}),
        ({}, [START, {**BODY, "more_body": True}], {}),
        ({}, [{**START, "trailers": True}, BODY], {}),
        ({}, [{**START, "status": 101}, BODY], {}),
        ({}, [{**START, "headers": [(b"Connection", b"Close")]}, BODY], {}),
        ({"headers": [(b"connection", b"close")]}, [START, BODY], {}),
        ({"headers": [(b"upgrade", b"h2c")]}, [START, BODY], {}),
        ({"headers": [(b"content-length", b"5")]}, [START, BODY], {}),
        ({"headers": [(b"transfer-encoding", b"chunked")]}, [START, BODY], {}),
        ({}, [START, BODY], {"fails": True}),
        ({"type": "websocket", "scheme": "ws"}, [], {}),
    ],
)
def test_a_peer_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, Any],
    answer: list[Message],
    given: dict[str, Any],
) -> None:
    """When an answer or a request is not whole, the connection ends, or is another protocol."""
    said = told(monkeypatch, {**SCOPE, **more}, answer, **given)
    assert said[-1] == ("request", False)


@pytest.mark.parametrize(
    ("more", "answer", "given"),
    [
        ({"headers": [(b"content-length", b"0")]}, [START, BODY], {}),
        ({"headers": [(b"content-length", b"5")]}, [START, BODY], {"reads": True}),
        ({}, [START, {**BODY, "more_body": True}, BODY], {}),
        ({}, [{**START, "trailers": True}, BODY, {"type": "http.response.trailers"}], {}),
        ({}, [START, {"type": "http.response.pathsend", "path": "/x"}], {}),
    ],
)
def test_a_peer_is_kept(
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, Any],
    answer: list[Message],
    given: dict[str, Any],
) -> None:
    """However the end of the answer is said."""
    assert told(monkeypatch, {**SCOPE, **more}, answer, **given)[-1] == ("request", True)


@pytest.mark.parametrize(
    ("more", "server"),
    [
        ({"scheme": "https"}, None),
        ({"client": None}, None),
        ({"client": ("/run/x",)}, None),
        ({"http_version": "2"}, None),
        ({}, Uvicorn(("10.0.0.9", 9), tls="context")),
        ({}, Uvicorn("")),
    ],
)
def test_nothing_is_said_of_a_peer_that_is_unknown(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], server: Uvicorn | None
) -> None:
    """TLS ends in this worker; a Unix socket; HTTP/2."""
    said = told(monkeypatch, {**SCOPE, **more}, [START, BODY], server=server)
    assert said == [("app",), ("returned",)]


def test_what_a_proxy_says_of_its_client_is_not_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uvicorn's own middleware has changed client and scheme; its transport is asked."""
    scope = {**SCOPE, "client": ("203.0.113.1", 0), "scheme": "https"}
    said = told(monkeypatch, scope, [START, BODY], server=Uvicorn(("10.0.0.2", 2000)))
    assert said[0] == ("10.0.0.2", 2000)
    assert said[-1] == ("request", True)
