"""Connections taken out of the kernel without a word."""

from __future__ import annotations

import socket

import pytest
from tests.linux.unprivileged import as_nobody
from tests.waiting import PATIENCE

from segue.errors import KernelError
from segue.linux import tcp_repair

pytestmark = pytest.mark.usefixtures("netns")


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=PATIENCE)
        return client, listener.accept()[0]


@pytest.mark.root
def test_a_peer_hears_nothing_of_a_disconnect() -> None:
    """It is no end for the peer, whose next segment finds nobody."""
    client, server = pair()
    with client, server:
        assert tcp_repair.clock(server) > 0
        assert tcp_repair.connected(server)
        tcp_repair.enter(server)
        assert tcp_repair.repaired(server)
        tcp_repair.disconnect(server)
        tcp_repair.leave(server)
        tcp_repair.finish(server)
        assert not tcp_repair.repaired(server)
        assert not tcp_repair.connected(server)
        assert server.recv(1) == b""  # an end, and no error
        client.settimeout(0)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        client.settimeout(PATIENCE)
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


@pytest.mark.root
def test_a_connection_that_is_left_alone_again() -> None:
    """In repair mode its owner gets EPERM; after it, what came meanwhile."""
    client, server = pair()
    with client, server:
        tcp_repair.enter(server)
        client.sendall(b"x")
        with pytest.raises(PermissionError):
            server.recv(1)
        tcp_repair.leave(server)
        tcp_repair.leave(server)
        assert server.recv(1) == b"x"


@pytest.mark.root
def test_it_needs_a_capability() -> None:
    """Said in the error."""
    client, server = pair()

    def refused() -> None:
        with pytest.raises(KernelError, match="CAP_NET_ADMIN"):
            tcp_repair.enter(server)

    with client, server:
        as_nobody(refused)
