"""What TCP has of a socket."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

import pytest
from tests.waiting import PATIENCE

from segue.errors import KernelError
from segue.linux import sockopt, tcp_queue

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("netns")]


def test_a_listeners_queue_and_backlog() -> None:
    """As sock_diag has them."""
    with socket.create_server(("127.0.0.1", 0), backlog=7) as listener:
        assert tcp_queue.accepting(listener) == (0, 7)
        with socket.create_connection(listener.getsockname()):
            assert tcp_queue.accepting(listener) == (1, 7)


def test_unread_bytes_stay_where_they_are() -> None:
    """An urgent mark ends what is seen; a connection that was reset has an error."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=PATIENCE)
        server = listener.accept()[0]
        with client, server:
            assert tcp_queue.peek(server, 9) == b""
            client.sendall(b"abc")
            assert server.recv(9, socket.MSG_PEEK) == b"abc"
            assert [tcp_queue.peek(server, 9) for _ in range(2)] == [b"abc"] * 2
            assert tcp_queue.peek(server, 2) == b"ab"
            sockopt.reset_at_close(client)
            client.close()
            assert server.recv(9) == b"abc"
            with pytest.raises(KernelError, match="ECONNRESET"):
                tcp_queue.peek(server, 9)


def test_what_came_and_what_was_read() -> None:
    """Of a connection that both sides have open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=5)
        with listener.accept()[0] as server:
            with client:
                assert (tcp_queue.received(server), tcp_queue.read_of(server)) == (0, 0)
                client.sendall(b"abc")
                assert server.recv(2) == b"ab"
                assert (tcp_queue.received(server), tcp_queue.read_of(server)) == (3, 2)
            assert server.recv(9) == b"c"
            assert server.recv(9) == b""
            assert (tcp_queue.received(server), tcp_queue.read_of(server)) == (None, None)


def test_what_is_plain_tcp() -> None:
    """Multipath TCP is not."""
    with socket.socket() as sock:
        assert tcp_queue.plain(sock)
    try:
        multipath = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)  # IPPROTO_MPTCP
    except OSError as error:
        if error.errno != errno.EPROTONOSUPPORT:
            raise
        pytest.skip("this kernel has no Multipath TCP")
    with multipath:
        assert not tcp_queue.plain(multipath)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_the_class_of_packets(host: str) -> None:
    """By the packets, also where IPv4 comes to a dual-stack listener."""
    six = ":" in host
    family = socket.AF_INET6 if six else socket.AF_INET
    here = ("::" if six else host, 0)
    with ExitStack() as stack:
        listener = socket.create_server(here, family=family, dualstack_ipv6=six)
        stack.enter_context(listener)
        where = (host, listener.getsockname()[1])
        client = stack.enter_context(socket.create_connection(where))
        if host == "::1":
            client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0x28)
        else:
            client.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x28)
        assert tcp_queue.traffic_class(client) == 0x28


def test_a_socket_of_one_interface() -> None:
    """By SO_BINDTODEVICE."""
    with socket.socket() as sock:
        assert not sockopt.bound(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        assert sockopt.bound(sock)
