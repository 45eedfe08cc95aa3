"""What is asked of a connection while its worker stands still, before it is carried."""

from __future__ import annotations

import select
import socket
from collections.abc import Collection, Iterator

import pytest

from segue.group import Connection
from segue.linux import tcp_queue
from segue.observe.carrying import Refusal
from segue.observe.kept import Left
from segue.page import Mark, Says
from segue.supervisor.workers.carrying import _Check, _Ready
from segue.supervisor.workers.marks import Marks
from segue.supervisor.workers.sleeping import Held

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
KEPT = Mark(Says.KEPT, 500)
_LIMIT = 10.0


class _Said(Marks):
    """The same of every peer."""

    def __init__(self, mark: Mark | None) -> None:
        self.mark = mark

    def of(self, who: bytes, pids: Collection[int], now: int) -> Mark | None:
        """Whoever it is."""
        del who, pids, now
        return self.mark


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client, and its connection in a worker that has read one request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=_LIMIT)
        with client, listener.accept()[0] as old:
            client.sendall(REQUEST)
            assert old.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST
            yield client, old


def check(old: socket.socket, before: Mark | None, now: Mark | None) -> _Check:
    """Of this connection, which was listed with one mark and has another."""
    seen = Connection(1, 2, ("127.0.0.1", 1000), 1, 0, 0, 500, 500)
    held = Held(seen, b"", (), read=tcp_queue.read_of(old) or 0)
    return _Check(_Ready(held, before, 0, None), _Said(now), old)


def test_what_waits_as_before_is_carried(ends: tuple[socket.socket, socket.socket]) -> None:
    """Also with a request that its worker has not read: that goes along."""
    client, old = ends
    asked = check(old, KEPT, KEPT)
    assert asked() is None
    client.sendall(REQUEST)
    assert select.select([old], [], [], _LIMIT)[0]
    assert asked() is None


def test_a_request_that_was_read_since_is_not_lost(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """Its application has not begun with it, so the mark is as it was; nor was it noted."""
    client, old = ends
    asked = check(old, KEPT, KEPT)
    client.sendall(REQUEST)
    assert old.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST
    assert asked() is Refusal.OWED
    assert asked.changed is Left.CAME_SINCE


def test_another_mark_decides(ends: tuple[socket.socket, socket.socket]) -> None:
    """Whatever was read."""
    _, old = ends
    asked = check(old, KEPT, Mark(Says.BUSY, 1))
    assert asked() is Refusal.OWED
    assert asked.changed is Left.BUSY


def test_without_a_mark_the_notes_decide(ends: tuple[socket.socket, socket.socket]) -> None:
    """A client that never pauses has asked again by then, and has its answer perhaps."""
    client, old = ends
    asked = check(old, None, None)
    client.sendall(REQUEST)
    assert old.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST
    assert asked() is None
