"""What belongs to an address, and what a look leaves out."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest
from tests.policy.clients import close, deaf, queue
from tests.waiting import PATIENCE

from segue.address import Address
from segue.group import Group
from segue.linux import proc
from segue.linux.sock_diag import SockDiag
from segue.linux.sockopt import cookie, open_listener
from segue.observe.snapshot import Observer, Part

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("netns")]

HOST = Address("127.0.0.1", 8000)
ME = frozenset({os.getpid()})


def test_only_the_queues() -> None:
    """By cookie, of exactly this address."""
    with (
        open_listener(HOST, backlog=8) as one,
        open_listener(Address("0.0.0.0", 8000), backlog=8),
        Observer() as observer,
    ):
        clients = queue(3, HOST)
        assert observer.queued(HOST) == {cookie(one): 3}
        assert observer.queued(HOST.at(8001)) == {}
        close(clients)


def test_a_mapped_address_is_found_however_it_is_written() -> None:
    """The kernel writes ::ffff:127.0.0.1; others write its last half in hexadecimal."""
    with socket.socket(socket.AF_INET6) as listener, Observer() as observer:
        listener.bind(("::ffff:127.0.0.1", 8000))
        listener.listen(8)
        with deaf(HOST):
            for host in ("::ffff:127.0.0.1", "::ffff:7f00:1"):
                group = observer.snapshot(Address(host, 8000), Part.REQUESTS)
                assert [one.cookie for one in group.listeners] == [cookie(listener)]
                assert len(group.requests) == 1


def test_a_dual_stack_wildcard_has_requests_and_connections_of_both() -> None:
    """IPv4 comes to it with mapped addresses, which are no less its own."""
    with socket.socket(socket.AF_INET6) as listener, Observer() as observer:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", 8000))
        listener.listen(8)
        with (
            deaf(HOST),
            deaf(Address("::1", 8000)),
            socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE),
            socket.create_connection(("::1", 8000), timeout=PATIENCE),
        ):
            group = observer.snapshot(Address("::", 8000), Part.REQUESTS, Part.CONNECTIONS)
            assert len(group.requests) == 2
            assert sorted(one.peer[0] for one in group.connections) == ["::1", "::ffff:127.0.0.1"]
            assert group.listeners[0].v6only is False


def test_what_a_worker_has_closed_is_not_waiting() -> None:
    """Closed sockets have inode 0 like queued ones, and the kernel finishes them alone."""
    with (
        open_listener(HOST, backlog=8) as listener,
        Observer() as observer,
        socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE),
    ):
        child, _ = listener.accept()
        child.shutdown(socket.SHUT_WR)
        (half,) = observer.snapshot(HOST, Part.CONNECTIONS).connections
        assert half.accepted
        child.close()
        with SockDiag() as diag:
            assert [one.inode for one in diag.connections(8000, socket.AF_INET)] == [0]
        assert observer.snapshot(HOST, Part.CONNECTIONS).connections == ()


def test_a_queued_child_whose_client_has_gone_still_waits() -> None:
    """CLOSE_WAIT with inode 0: the worker will accept it and read the end."""
    with open_listener(HOST, backlog=8), Observer() as observer:
        socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE).close()
        (waiting,) = observer.snapshot(HOST, Part.CONNECTIONS).connections
        assert not waiting.accepted


def test_owners_anywhere_when_asked_for() -> None:
    """Without pids every process is looked into; with pids only those."""
    with (
        open_listener(HOST, backlog=8) as listener,
        Observer() as observer,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[listener.fileno()]) as process,
    ):
        both = tuple(sorted([os.getpid(), process.pid]))
        (seen,) = observer.snapshot(HOST, Part.OWNERS).listeners
        assert seen.owners == both
        (seen,) = observer.snapshot(HOST, Part.OWNERS, pids=ME).listeners
        assert seen.owners == (os.getpid(),)
        process.communicate(b"", timeout=PATIENCE)


def test_only_sockets_of_the_group_have_owners() -> None:
    """Whatever else the processes have open is left out."""
    with (
        open_listener(HOST, backlog=8) as listener,
        open_listener(HOST.at(8001), backlog=8),
        Observer() as observer,
    ):
        inode = os.fstat(listener.fileno()).st_ino
        assert observer.snapshot(HOST, pids=ME).owners == {inode: os.getpid()}


def test_siblings_are_those_the_kernel_groups() -> None:
    """A listener bound to an interface is at the same address and in another group."""
    with (
        open_listener(HOST, backlog=8) as one,
        open_listener(HOST, backlog=8) as two,
        socket.socket() as bound,
        Observer() as observer,
    ):
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        bound.bind(("127.0.0.1", 8000))
        bound.listen(8)
        group = observer.snapshot(HOST)
        assert len(group.listeners) == 3
        assert siblings(group, one) == [cookie(two)]
        assert siblings(group, bound) == []


def siblings(group: Group, listener: socket.socket) -> list[int]:
    seen = group.by_cookie(cookie(listener))
    assert seen is not None
    return [other.cookie for other in group.siblings(seen)]


class Meanwhile(SockDiag):
    """Lets a child be accepted just after the listeners were looked at."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__()
        self.listener = listener
        self.accepted: socket.socket | None = None

    def listeners(self, port: int | None, family: int) -> list[object]:  # type: ignore[override]
        found = super().listeners(port, family)
        self.accepted, _ = self.listener.accept()
        return list(found)


def test_who_is_accepted_during_the_look_is_seen_twice_rather_than_not() -> None:
    """In the queue when the listener was looked at, and among what the worker holds."""
    with open_listener(HOST, backlog=8) as listener, Observer() as observer:
        observer.diag.close()
        observer.diag = diag = Meanwhile(listener)
        with socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE):
            group = observer.snapshot(HOST, Part.REQUESTS, Part.CONNECTIONS, pids=ME)
            assert [one.queue for one in group.listeners] == [1]
            assert len(group.held_by(ME)) == 1
            assert diag.accepted is not None
            assert diag.accepted.fileno() in proc.sockets(os.getpid()).values()
            diag.accepted.close()
