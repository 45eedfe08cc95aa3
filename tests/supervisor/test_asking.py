"""A question over one connection, answered in pieces, wrongly or not at all."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from segue.supervisor.question import Question
from segue.supervisor.workers.asking import Asking


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def asked(ours: socket.socket, path: str = "/h", statuses: str = "") -> Asking:
    made = Asking(Question.of("--ready-http", path, statuses=statuses), "127.0.0.1:80", ours)
    made.step()
    return made


def test_an_answer_may_come_in_pieces(pair: tuple[socket.socket, socket.socket]) -> None:
    """It is there with its status line; nothing waits for it."""
    ours, theirs = pair
    asking = asked(ours)
    assert theirs.recv(1000).startswith(b"GET /h HTTP/1.1\r\n")
    for piece in (b"HTTP/1.1 2", b"04 No Con", b"tent\r"):
        theirs.send(piece)
        asking.step()
        assert (asking.answered, asking.failed) == (None, "")
    theirs.send(b"\n")
    asking.step()
    assert asking.answered == 204


def test_interim_answers_come_before_the_final_one(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """103 with headers; only a question that wants 1xx takes one."""
    ours, theirs = pair
    asking = asked(ours)
    theirs.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n")
    asking.step()
    theirs.send(b"\r\nHTTP/1.1 200 OK\r\n")
    asking.step()
    assert asking.answered == 200
    theirs.send(b"HTTP/1.1 103 Early Hints\r\n")
    early = asked(ours, statuses="103")
    assert early.answered == 103


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "GET /h: it hung up without an answer"),
        (b"HTTP/1.1 200", "GET /h: it hung up without an answer"),
        (b"SSH-2.0-x\r\n", "GET /h: the answer is not HTTP/1.1"),
        (b"HTTP/1.1 ok\r\n", "GET /h: the answer is not HTTP/1.1"),
    ],
)
def test_what_is_no_answer_has_a_reason(
    pair: tuple[socket.socket, socket.socket], said: bytes, why: str
) -> None:
    """As far as it is known."""
    ours, theirs = pair
    asking = asked(ours)
    theirs.send(said)
    theirs.shutdown(socket.SHUT_WR)
    asking.step()
    assert (asking.answered, asking.failed) == (None, why)


def test_a_server_without_tls_is_said(pair: tuple[socket.socket, socket.socket]) -> None:
    """With https:/ in the question."""
    ours, theirs = pair
    asking = asked(ours, "https:/h")
    theirs.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    asking.step()
    asking.close()
    assert asking.failed == "GET https:/h: the TLS handshake failed: wrong version number"
