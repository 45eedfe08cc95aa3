"""Clients that think, against a server that answers."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from bench.thinking import Thinking

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("netns")]


class Answers(http.server.BaseHTTPRequestHandler):
    """An empty answer; the connection is kept."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """As http.server calls it."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def served() -> Iterator[int]:
    """Its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_each_has_asked_once_before_anything_is_done_to_the_server() -> None:
    """So a restart that is over at once does meet their connections."""
    with served() as port, Thinking("127.0.0.1", port, 8, 0.01) as clients:
        found = clients.stop()
    assert found.asked >= 8
    assert not found.lost
    assert found.reconnected == 0
    assert len(found.latencies_ms) == found.asked
