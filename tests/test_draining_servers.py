"""Real servers with the middleware: what a client with a kept connection sees when they drain."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from segue.linux import proc
from segue.page import DRAINING, SERVING
from segue.probe.exchange import http
from segue.probe.http1 import ResponseReader
from segue.worker import VARIABLE
from tests.waiting import PATIENCE

pytestmark = pytest.mark.root

CLONE = Path(__file__).parent.parent
PORT = 8080
REQUEST = http(f"127.0.0.1:{PORT}", keep_alive=True).request
SOON = 20.0  # and the shortest timeout of the servers is a minute
BIND = f"127.0.0.1:{PORT}"
ASGI, WSGI = "examples.draining:app", "examples.draining:wsgi"

# None closes a connection by itself within this test, and none waits for one when it is stopped.
UVICORN = ["uvicorn", "--port", str(PORT), "--log-level", "warning", ASGI]
UVICORN += ["--timeout-keep-alive", "600"]
GRANIAN = ["granian", "--port", str(PORT), "--log-level", "warning", "--workers-kill-timeout", "5"]
GRANIAN += ["--http1-header-read-timeout", "60000", "--interface"]
GUNICORN = ["gunicorn", "--bind", BIND, "--no-control-socket", "--log-level", "warning"]
SERVERS = {
    "uvicorn-h11": [*UVICORN, "--http", "h11"],
    "uvicorn-httptools": [*UVICORN, "--http", "httptools"],
    "hypercorn": ["hypercorn", "--bind", BIND, "--keep-alive", "600", ASGI],
    "granian-asgi": [*GRANIAN, "asgi", ASGI],
    "granian-wsgi": [*GRANIAN, "wsgi", WSGI],
    "gunicorn-gthread": [*GUNICORN, "--threads", "2", "--keep-alive", "600", WSGI],
}
OWN_TIMEOUT = {"gunicorn-asgi": [*GUNICORN, "--worker-class", "asgi", "--keep-alive", "2", ASGI]}


def cases(servers: dict[str, list[str]]) -> list[object]:
    """Each by its name; httptools is an extra of uvicorn's, which changes how it reads HTTP."""
    httptools = pytest.mark.skipif(find_spec("httptools") is None, reason="needs httptools")
    return [
        pytest.param(command, id=name, marks=[httptools] if "httptools" in name else [])
        for name, command in servers.items()
    ]


@contextmanager
def serving(command: list[str], flag: Path) -> Iterator[None]:
    """The server from this environment's own programs, told to stop at the end."""
    program = Path(sys.executable).with_name(command[0])
    environment = {**os.environ, VARIABLE: str(flag)}
    with subprocess.Popen([program, *command[1:]], cwd=CLONE, env=environment) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                for pid in proc.tree(process.pid):
                    os.kill(pid, signal.SIGKILL)


def connect() -> socket.socket:
    """A connection, as soon as the server listens."""
    limit = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE)
        except ConnectionRefusedError:
            assert time.monotonic() < limit, "the server never listened"
            time.sleep(0.02)


def ask(client: socket.socket) -> ResponseReader:
    client.sendall(REQUEST)
    reader = ResponseReader()
    while not reader.complete:
        data = client.recv(4096)
        assert data, "closed in the middle of an answer"
        reader.feed(data)
    assert reader.status == 200
    return reader


def turn(flag: Path, stage: int) -> None:
    """Write the stage as the supervisor does: into the file that the worker has mapped."""
    descriptor = os.open(flag, os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, bytes([stage]))
    os.close(descriptor)


@pytest.mark.parametrize("command", cases(SERVERS))
def test_the_next_answer_of_each_connection_says_close_and_the_server_closes(
    netns: int, tmp_path: Path, command: list[str]
) -> None:
    """Before the flag: kept.  After it: one more whole answer, the announcement, the close."""
    flag = tmp_path / "stage"
    turn(flag, SERVING)
    with serving(command, flag), connect() as busy, connect() as idle:
        for client in (busy, idle, busy, idle, busy):
            assert ask(client).reusable
        turn(flag, DRAINING)
        for client in (busy, idle):
            assert ask(client).closing
            client.settimeout(SOON)
            assert client.recv(1) == b""


@pytest.mark.parametrize("command", cases(OWN_TIMEOUT))
def test_a_server_that_only_announces_closes_at_its_own_timeout(
    netns: int, tmp_path: Path, command: list[str]
) -> None:
    """The client is told, and closes; if it does not, the keep-alive timeout (2 s) ends it."""
    flag = tmp_path / "stage"
    turn(flag, SERVING)
    with serving(command, flag), connect() as client:
        assert ask(client).reusable
        assert ask(client).reusable
        turn(flag, DRAINING)
        assert ask(client).closing
        assert client.recv(1) == b""


def test_a_new_connection_to_a_draining_worker_is_answered_once(netns: int, tmp_path: Path) -> None:
    """What still reaches the old worker is served like any other, and then let go."""
    flag = tmp_path / "stage"
    turn(flag, DRAINING)
    with serving(SERVERS["uvicorn-h11"], flag), connect() as client:
        assert ask(client).closing
