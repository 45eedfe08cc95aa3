"""The ASGI middleware by itself: what it changes, and what it leaves alone."""

from __future__ import annotations

import asyncio
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
