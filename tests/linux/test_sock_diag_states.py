"""Where a connection stands, as sock_diag tells it: requests, Fast Open children, mapped peers."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from tests.policy.clients import close, deaf, queue
from tests.waiting import PATIENCE

from segue.address import Address
from segue.linux import sysctl
from segue.linux.inet_diag import decode_entry, info_of
from segue.linux.sock_diag import SockDiag, State
from segue.linux.sockopt import cookie, open_listener

GOLDEN = Path(__file__).parent.parent / "golden"
V4, V6 = socket.AF_INET, socket.AF_INET6
HERE = Address("127.0.0.1", 8000)
TCP_FASTOPEN = 23
FASTOPEN_FOR_ALL = 0x607

live = pytest.mark.usefixtures("netns")


def golden(name: str) -> memoryview:
    return memoryview(bytes.fromhex((GOLDEN / name).read_text()))


def test_a_request_is_told_from_a_fast_open_child() -> None:
    """Captured on Linux 6.18 as one dump: both say SYN_RECV, one names its shutdown state."""
    request = decode_entry(golden("inet_diag_request.hex"))
    child = decode_entry(golden("inet_diag_fast_open_child.hex"))
    assert golden("inet_diag_request.hex")[1] == golden("inet_diag_fast_open_child.hex")[1] == 3
    assert (request.state, child.state) == (State.NEW_SYN_RECV, State.SYN_RECV)
    assert (request.peer_port, request.rqueue, request.expires_ms) == (46004, 0, 1000)
    assert (child.peer_port, child.rqueue, child.inode) == (46008, 5, 0)
    assert (request.cookie, child.cookie) == (0x1108C, 0x1108B)


@live
@pytest.mark.root
def test_fast_open_children_are_connections_and_no_requests() -> None:
    """In the accept queue before the final ACK, with data; nobody's until accepted."""
    sysctl.write("net.ipv4.tcp_fastopen", str(FASTOPEN_FOR_ALL))
    with open_listener(HERE, backlog=8) as listener, SockDiag() as diag:
        listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
        with deaf(HERE, b"early") as opened, deaf(HERE) as waiting:
            (request,) = diag.half_open(8000, V4)
            assert request.peer_port == waiting.getsockname()[1]
            (child,) = diag.connections(8000, V4)
            assert child.peer_port == opened.getsockname()[1]
            assert (child.state, child.inode, child.rqueue) == (State.SYN_RECV, 0, 5)
            assert diag.listeners(8000, V4)[0].rqueue == 1
            with listener.accept()[0] as accepted:
                (after,) = diag.connections(8000, V4)
                assert (after.state, after.cookie) == (State.SYN_RECV, cookie(accepted))
                assert after.inode == os.fstat(accepted.fileno()).st_ino


@live
@pytest.mark.root
def test_ipv4_at_a_dual_stack_listener_has_mapped_addresses() -> None:
    """Requests and children are in the list of IPv6, and not in that of IPv4."""
    with socket.socket(V6) as listener, SockDiag() as diag:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", 8000))
        listener.listen(8)
        with deaf(HERE), socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE) as client:
            assert diag.listeners(8000, V6)[0].v6only is False
            (request,) = diag.half_open(8000, V6)
            assert request.host == "::ffff:127.0.0.1"
            (child,) = diag.connections(8000, V6)
            assert (child.host, child.peer_port) == ("::ffff:127.0.0.1", client.getsockname()[1])
            assert not diag.half_open(8000, V4)
            assert not diag.connections(8000, V4)
            mapped = ("::ffff:127.0.0.1", client.getsockname()[1])
            found = diag.one(V6, ("::ffff:127.0.0.1", 8000), mapped)
            assert found is not None
            assert found.cookie == child.cookie
            (again,) = diag.each([(V6, ("::ffff:127.0.0.1", 8000), mapped, 0)])
            assert again is not None
            assert again.cookie == child.cookie


@live
@pytest.mark.root
def test_a_half_open_request_is_found() -> None:
    """By its ends."""
    with open_listener(HERE, backlog=8), SockDiag() as diag, deaf(HERE) as client:
        (request,) = diag.half_open(8000, V4)
        found = diag.one(V4, ("127.0.0.1", 8000), client.getsockname())
        assert found is not None
        assert (found.state, found.cookie) == (State.NEW_SYN_RECV, request.cookie)


@live
@pytest.mark.root
def test_a_listener_tells_its_queue_and_backlog_itself() -> None:
    """The same through its descriptor as through the list."""
    with open_listener(HERE, backlog=7) as listener, SockDiag() as diag:
        clients = queue(3, HERE)
        info = info_of(listener)
        (seen,) = diag.listeners(8000, V4)
        assert info is not None
        assert (info.unacked, info.sacked) == (seen.rqueue, seen.wqueue) == (3, 7)
        close(clients)


@live
@pytest.mark.root
def test_a_mask_is_as_good_as_states() -> None:
    """And a state named twice is asked for once."""
    with open_listener(HERE, backlog=7), SockDiag() as diag:
        by_mask = diag.dump(1 << State.LISTEN, family=V4)
        assert by_mask == diag.dump([State.LISTEN, State.LISTEN], family=V4)
        assert len(by_mask) == 1


@live
@pytest.mark.root
def test_a_list_longer_than_one_buffer_is_whole() -> None:
    """A thousand listeners, each once."""
    opened = [open_listener(HERE.at(9000 + n), backlog=1) for n in range(1000)]
    with SockDiag() as diag:
        found = diag.dump([State.LISTEN], family=V4, memory=True)
        assert sorted(one.port for one in found) == list(range(9000, 10000))
        assert {one.cookie for one in found} == {cookie(one) for one in opened}
    close(opened)
