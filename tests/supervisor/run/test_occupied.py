"""A port that a connection has: it is named, waited for, and the error says so."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.supervisor.run.doubles import Run, settings_of

from segue.address import Address
from segue.errors import KernelError
from segue.linux.sockopt import open_listener
from segue.observe.snapshot import Observer
from segue.supervisor.run import occupied
from segue.supervisor.run.occupied import connection_at, wait_for_ports


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    """An outgoing one, from a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.bind(("127.0.0.1", 0))
        client.connect(server.getsockname())
        yield client


def here(connection: socket.socket) -> Address:
    return Address("127.0.0.1", connection.getsockname()[1])


def test_a_connection_that_has_the_port_is_named(connection: socket.socket) -> None:
    """With both ends and its process; at another host of the port there is none."""
    at = here(connection)
    with Observer() as observer:
        said = connection_at(observer, at)
        assert said.startswith(f"the connection from {at} to 127.0.0.1:")
        assert f" of pid {os.getpid()} (" in said
        assert connection_at(observer, Address("0.0.0.0", at.port)) == said
        assert connection_at(observer, Address("127.0.0.2", at.port)) == ""


def test_where_somebody_listens_connections_are_the_listeners(connection: socket.socket) -> None:
    """They keep nobody from the port."""
    with socket.create_server(("127.0.0.1", 0)) as server, Observer() as observer:
        at = Address("127.0.0.1", server.getsockname()[1])
        with socket.create_connection(server.getsockname()) as client:
            assert connection_at(observer, at) == ""
            assert connection_at(observer, here(client)) != ""


def test_the_port_is_waited_for_and_then_the_error_names_the_connection(
    connection: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said once; a refusal for another reason is not waited for."""
    at, tried = here(connection), 0
    run = Run(tmp_path, settings_of())
    run.service.fronts[0].asked = at
    monkeypatch.setattr(run.service, "observer", Observer())

    def attempt() -> None:
        nonlocal tried
        tried += 1
        if tried == 3:
            # Reset, so that it is gone at once.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        open_listener(at, backlog=1).close()

    try:
        wait_for_ports(run.service, attempt)
        assert tried > 2
        assert [line for line in run.log.lines if "a listener is tried for 10 s" in line] != []
        assert len(run.log.lines) == 1

        def refused() -> None:
            raise KernelError("bind", errno.EACCES, "listening")

        with pytest.raises(KernelError, match="EACCES"):
            wait_for_ports(run.service, refused)
    finally:
        run.service.observer.close()
        run.close()


def test_in_the_end_the_error_says_what_to_do(
    connection: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the whole time."""
    at = here(connection)
    run = Run(tmp_path, settings_of())
    run.service.fronts[0].asked = at
    monkeypatch.setattr(run.service, "observer", Observer())
    monkeypatch.setattr(occupied, "_WAIT", 0.0)
    try:
        with pytest.raises(KernelError, match=r"the connection from .* has this port: choose anot"):
            wait_for_ports(run.service, lambda: open_listener(at, backlog=1).close())
    finally:
        run.service.observer.close()
        run.close()
