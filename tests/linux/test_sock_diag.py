"""Socket diagnostics on the live kernel, and against another implementation."""

from __future__ import annotations

import os
import socket

import pytest
from pyroute2.netlink.diag import DiagSocket
from tests.linux.unprivileged import as_nobody
from tests.waiting import PATIENCE, wait_until

from segue.address import Address
from segue.linux.sock_diag import Entry, SockDiag, State
from segue.linux.sockopt import cookie, open_listener

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("netns")]

HERE = Address("127.0.0.1", 8000)
V4, V6 = socket.AF_INET, socket.AF_INET6


def connect(address: Address = HERE) -> socket.socket:
    return socket.create_connection((address.host, address.port), timeout=PATIENCE)


def test_the_queue_and_the_backlog_of_a_listener() -> None:
    """The queue is in rqueue and the backlog in wqueue; cookie and inode are the socket's."""
    with open_listener(HERE, backlog=7) as listener, SockDiag() as diag, connect(), connect():
        (seen,) = diag.listeners(8000, V4)
        assert (seen.rqueue, seen.wqueue, seen.drops) == (2, 7, 0)
        assert seen.cookie == cookie(listener)
        assert seen.inode == os.fstat(listener.fileno()).st_ino
        assert (seen.host, seen.port, seen.uid) == ("127.0.0.1", 8000, 0)
        listener.accept()[0].close()
        assert diag.listeners(8000, V4)[0].rqueue == 1


def test_drops_are_counted_at_the_listener_that_is_full() -> None:
    """A backlog of 0 holds one child; the next SYN is dropped, and a sibling's count stays."""
    with (
        open_listener(HERE, backlog=0),
        open_listener(HERE.at(8001), backlog=9),
        SockDiag() as diag,
        connect(),
        socket.socket() as late,
    ):
        late.setblocking(False)
        late.connect_ex(("127.0.0.1", 8000))

        def drops() -> dict[int, int | None]:
            return {seen.port: seen.drops for seen in diag.listeners(None, V4)}

        # The SYN may be left to a kernel thread, which runs later.
        wait_until(lambda: drops()[8000], "a drop")
        assert drops() == {8000: 1, 8001: 0}


def test_a_request_without_its_final_ack() -> None:
    """Half-open requests have a cookie, no inode, and no listener."""
    with open_listener(HERE, backlog=7) as listener, SockDiag() as diag:
        # Then the kernel takes the bare final ACK for nothing, and waits for data.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        with connect() as client:
            (seen,) = diag.half_open(8000, V4)
            assert (seen.state, seen.inode, seen.port) == (State.NEW_SYN_RECV, 0, 8000)
            assert seen.peer_port == client.getsockname()[1]
            assert seen.cookie not in {0, cookie(listener)}
            assert seen.expires_ms > 0
            assert not diag.connections(8000, V4)
            assert diag.listeners(8000, V4)[0].rqueue == 0
            client.sendall(b"x")
            assert not diag.half_open(8000, V4)
            assert diag.connections(8000, V4)[0].rqueue == 1


def test_a_child_has_an_inode_once_it_is_accepted() -> None:
    """0 while it waits in the queue; then its own, and the same cookie before and after."""
    with open_listener(HERE, backlog=7) as listener, SockDiag() as diag, connect() as client:
        client.sendall(b"hello")
        (before,) = diag.connections(8000, V4)
        assert (before.inode, before.rqueue) == (0, 5)
        assert (before.bytes_received, before.data_segs_out) == (5, 0)
        child, peer = listener.accept()
        with child:
            (after,) = diag.connections(8000, V4)
            assert after.inode == os.fstat(child.fileno()).st_ino
            assert after.cookie == before.cookie == cookie(child)
            assert (after.peer_host, after.peer_port) == peer


def test_one_socket_is_looked_up() -> None:
    """By both ends, or a listener by its own; None for one that is not there."""
    with open_listener(HERE, backlog=7) as listener, SockDiag() as diag, connect() as client:
        near, far = client.getsockname(), client.getpeername()
        seen = diag.one(V4, near, far)
        assert seen is not None
        assert seen.cookie == cookie(client)
        child = diag.one(V4, far, near)
        assert child is not None
        assert child.inode == 0
        assert diag.one(V4, near, (far[0], far[1] + 1)) is None
        # The listener would get a SYN from there; it is not the connection that was asked for.
        assert diag.one(V4, far, ("127.0.0.1", 9)) is None
        found = diag.one(V4, ("127.0.0.1", 8000), ("0.0.0.0", 0))
        assert found is not None
        assert (found.state, found.cookie) == (State.LISTEN, cookie(listener))


def ends(entries: list[Entry]) -> list[tuple[int, int]]:
    return sorted((one.port, one.peer_port) for one in entries)


def test_port_filters_filter() -> None:
    """By source, by destination, by both; neighbouring ports are others."""
    with (
        open_listener(HERE, backlog=7),
        open_listener(HERE.at(8001), backlog=7),
        SockDiag() as diag,
        connect() as one,
        connect(HERE.at(8001)) as two,
    ):
        first, second = (sock.getsockname()[1] for sock in (one, two))
        full = [State.ESTABLISHED]
        assert len(diag.dump(full, family=V4)) == 4
        assert ends(diag.dump(full, family=V4, sport=8000)) == [(8000, first)]
        assert ends(diag.dump(full, family=V4, dport=8001)) == [(second, 8001)]
        assert ends(diag.dump(full, family=V4, sport=first, dport=8000)) == [(first, 8000)]
        assert ends(diag.dump(full, family=V4, sport=first, dport=8001)) == []
        assert ends(diag.dump(full, family=V4, sport=7999)) == []
        assert ends(diag.listeners(8001, V4)) == [(8001, 0)]
        assert ends(diag.listeners(None, V4)) == [(8000, 0), (8001, 0)]


def test_families_are_apart() -> None:
    """An IPv6 listener is in the IPv6 list only, and says that it is V6ONLY."""
    with open_listener(Address("::1", 8000), backlog=7), SockDiag() as diag:
        assert diag.listeners(8000, V4) == []
        (seen,) = diag.listeners(8000, V6)
        assert (seen.host, seen.v6only) == ("::1", True)


def test_an_unprivileged_user_sees_all() -> None:
    """Queues, drops and cookies are everybody's to read."""
    with open_listener(HERE, backlog=7) as listener, connect():

        def work() -> tuple[int, int, int | None]:
            with SockDiag() as diag:
                (seen,) = diag.listeners(8000, V4)
                return seen.cookie, seen.rqueue, seen.drops

        assert as_nobody(work) == [cookie(listener), 1, 0]


def test_another_implementation_sees_the_same() -> None:
    """Cookies, inodes, ports and queues as pyroute2 reads them, in every state there is."""
    with (
        open_listener(HERE, backlog=7) as listener,
        SockDiag() as diag,
        connect(),
        connect(),
        listener.accept()[0],
    ):
        ours = {
            (one.cookie, one.inode, one.host, one.port, one.peer_port, one.rqueue, one.wqueue)
            for one in diag.dump(State, family=V4)
        }
        with DiagSocket() as oracle:
            oracle.bind()
            theirs = {
                (
                    one["idiag_cookie"],
                    one["idiag_inode"],
                    one["idiag_src"],
                    one["idiag_sport"],
                    one["idiag_dport"],
                    one["idiag_rqueue"],
                    one["idiag_wqueue"],
                )
                for one in oracle.get_sock_stats(family=V4)
            }
        assert ours == theirs
        assert len(ours) == 5


def test_a_connection_is_destroyed_once() -> None:
    """Both ends here are of one connection, and the first takes the other along by a reset."""
    with open_listener(HERE, backlog=1) as listener, SockDiag() as diag, connect() as client:
        accepted, peer = listener.accept()
        with accepted:
            assert diag.destroy(V4, ("127.0.0.1", 8000), peer)
            with pytest.raises(ConnectionError):
                client.recv(1)
            assert diag.one(V4, ("127.0.0.1", 8000), peer) is None
    with SockDiag() as diag:
        assert not diag.destroy(V4, ("127.0.0.1", 8000), peer)
