"""The examples do what their README says."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from examples import asyncio_server, hello, hello_wsgi, migration, slow

from segue.model.profile import LINUX, SERIES, Profile
from segue.probe.exchange import http
from segue.probe.http1 import ResponseReader
from tests.waiting import PATIENCE, wait_until

EXAMPLES = Path(__file__).parent.parent / "examples"
PORT = 8080


def ask(
    app: Callable[..., Any], path: str = "/", query: str = ""
) -> tuple[int, dict[str, str], str]:
    """Status, header fields and body of an ASGI application's answer."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, str]:
        return {"type": "http.request"}

    scope = {"type": "http", "path": path, "query_string": query.encode(), "method": "GET"}
    asyncio.run(app(scope, receive, send))
    fields = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert not sent[-1].get("more_body")
    return sent[0]["status"], fields, b"".join(part["body"] for part in sent[1:]).decode()


def test_each_example_has_its_line() -> None:
    """A file that the README does not name is not found by anybody."""
    text = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.glob("[!_]*.py"):
        assert f"| `{path.name}` |" in text


@pytest.mark.parametrize("profile", [SERIES, LINUX], ids=lambda one: one.name)
def test_the_series_test_is_told_to_the_model(profile: Profile) -> None:
    """All 25 are accepted, and most of them had to move for that."""
    accepted, moved = migration.accepted(profile)
    assert accepted == 25
    assert 15 <= moved < 25


def test_hello_names_process_and_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    """In header fields for the probe, in the body for people; ASGI and WSGI say the same."""
    monkeypatch.delenv("SEGUE_GENERATION", raising=False)
    assert "x-generation" not in ask(hello.app)[1]
    monkeypatch.setenv("SEGUE_GENERATION", "7")
    status, fields, body = ask(hello.app)
    assert (status, fields["x-pid"], fields["x-generation"]) == (200, str(os.getpid()), "7")
    begun: list[Any] = []
    data = b"".join(hello_wsgi.app({}, lambda *given: begun.append(given)))
    assert data.decode() == body
    assert begun[0][0] == "200 OK"
    assert {name.lower(): value for name, value in begun[0][1]} == fields


def test_hello_takes_part_in_the_lifespan() -> None:
    """Some servers will not start without."""
    asked = iter(["lifespan.startup", "lifespan.shutdown"])
    said = []

    async def receive() -> dict[str, str]:
        return {"type": next(asked)}

    async def send(message: Any) -> None:
        said.append(message["type"])

    asyncio.run(hello.app({"type": "lifespan"}, receive, send))
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_slow_takes_the_time_that_is_asked() -> None:
    """At least; and a query without sense is told so instead of hanging."""
    before = time.monotonic()
    assert ask(slow.app, "/slow", "ms=30")[2] == "part 1 of 1\n"
    assert time.monotonic() - before >= 0.03
    assert ask(slow.app, "/stream", "parts=2&ms=1")[2] == "part 1 of 2\npart 2 of 2\n"
    for query in ("ms=x", "ms=-1", "ms=60001"):
        status, _, body = ask(slow.app, "/slow", query)
        assert (status, body[:15]) == (400, "ms must be betw")


@contextmanager
def broken(how: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", "import examples.broken"]
    environment = {**os.environ, "EXAMPLE_BROKEN": how}
    with subprocess.Popen(
        command, cwd=EXAMPLES.parent, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_broken_breaks_in_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """At import, by its exit status, by hanging until it is killed, by answering 503."""
    with broken("raise") as process:
        assert process.stderr
        assert "broken on purpose" in process.stderr.read()
        assert process.wait(PATIENCE) == 1
    with broken("exit") as process:
        assert process.wait(PATIENCE) == 7
    with broken("hang") as process:
        assert process.stderr
        assert process.stderr.readline() == "hanging on purpose\n"
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == -signal.SIGTERM
    monkeypatch.setenv("EXAMPLE_BROKEN", "unhealthy")
    assert ask(importlib.import_module("examples.broken").app)[0] == 503


def connect() -> socket.socket:
    return socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE)


def listening() -> bool:
    try:
        connect().close()
    except ConnectionRefusedError:
        return False
    except ConnectionResetError:
        pass  # it closed with us in its accept queue: the next attempt will tell
    return True


def answer(client: socket.socket) -> ResponseReader:
    reader = ResponseReader(keep_body=True)
    while data := client.recv(4096):
        reader.feed(data)
    assert reader.complete
    assert reader.closing
    return reader


@pytest.mark.root
def test_the_asyncio_server_finishes_what_it_accepted(netns: int) -> None:
    """SIGTERM ends the listening, not the request that is half sent; then the exit status is 0."""
    request = http("127.0.0.1:8080").request
    # The listener as descriptor 3 and no other: a second one would keep it open after the first.
    become = (
        "import os, sys; given = int(sys.argv[1]); os.dup2(given, 3);"
        " given != 3 and os.close(given); os.execv(sys.argv[2], sys.argv[2:])"
    )
    server = [sys.executable, "-m", "examples.asyncio_server"]
    environment = {**os.environ, "LISTEN_FDS": "1", "SEGUE_GENERATION": "2"}
    with socket.create_server(("127.0.0.1", PORT), backlog=9) as listener:
        process = subprocess.Popen(
            [sys.executable, "-c", become, str(listener.fileno()), *server],
            cwd=EXAMPLES.parent,
            env=environment,
            pass_fds=[listener.fileno()],
        )
    with process, connect() as half, connect() as whole:
        half.sendall(request[:10])
        whole.sendall(request)
        # It was behind the other in the queue, so now both are accepted.
        assert answer(whole).field(b"x-generation") == b"2"
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: not listening(), "nobody listens")
        half.sendall(request[10:])
        assert answer(half).status == 200
        assert process.wait(PATIENCE) == 0


@pytest.mark.root
def test_the_asyncio_server_answers_what_it_accepts_in_its_last_turn(
    netns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told to stop in the turn of the loop in which it accepts: who is accepted is served."""
    told: list[Callable[[], None]] = []
    with (
        closing(asyncio.new_event_loop()) as loop,
        socket.create_server(("127.0.0.1", PORT)) as listener,
        socket.socket() as client,
    ):
        monkeypatch.setattr(loop, "add_signal_handler", lambda _, stop: told.append(stop))

        def come_and_stop() -> None:
            client.connect(("127.0.0.1", PORT))
            client.sendall(http("x").request)
            loop.call_soon(told[0])

        listener.setblocking(False)
        serving = loop.create_task(asyncio_server.serve(listener))
        while not told:
            loop.run_until_complete(asyncio.sleep(0))
        loop.call_soon(come_and_stop)
        loop.call_later(PATIENCE, serving.cancel)
        loop.run_until_complete(serving)
        client.settimeout(PATIENCE)
        assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_the_asyncio_server_says_what_it_needs() -> None:
    """Without an inherited listener there is nothing to serve on."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.asyncio_server"],
        cwd=EXAMPLES.parent, env={"PATH": "/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "start this with segue run" in done.stderr
