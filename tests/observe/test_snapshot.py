"""One look at a live group."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from tests.waiting import PATIENCE

from segue.address import Address
from segue.linux.sockopt import cookie, open_listener
from segue.observe.snapshot import Observer, Part

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("netns")]

HOST = Address("127.0.0.1", 8000)
EVERY = Address("0.0.0.0", 8000)
SIX = Address("::1", 8000)
ME = frozenset({os.getpid()})


def connect(address: Address) -> socket.socket:
    return socket.create_connection((address.near, address.port), timeout=PATIENCE)


def test_a_wildcard_is_another_group_than_a_host() -> None:
    """The same port, but no listener is in two groups; nor is one of another family."""
    with (
        open_listener(HOST, backlog=8) as host,
        open_listener(EVERY, backlog=8) as every,
        open_listener(SIX, backlog=8) as six,
        Observer() as observer,
    ):
        for address, listener in ((HOST, host), (EVERY, every), (SIX, six)):
            seen = observer.snapshot(address)
            assert [one.cookie for one in seen.listeners] == [cookie(listener)]
            assert seen.strangers(frozenset({cookie(listener)})) == ()
            assert seen.strangers(frozenset()) == seen.listeners
        assert observer.snapshot(HOST.at(8001)).listeners == ()


def test_queues_by_listener() -> None:
    """Backlog and queue of each, under its own cookie; nothing that was not asked for."""
    with open_listener(HOST, backlog=8) as one, connect(HOST), Observer() as observer:
        with open_listener(HOST, backlog=5) as two:
            group = observer.snapshot(HOST)
            told = {seen.cookie: (seen.queue, seen.backlog) for seen in group.listeners}
            assert told == {cookie(one): (1, 8), cookie(two): (0, 5)}
        assert (group.connections, group.requests, group.owners) == ((), frozenset(), {})
        assert {seen.owners for seen in group.listeners} == {()}


@pytest.mark.parametrize("address", [HOST, EVERY, SIX], ids=str)
def test_a_connection_before_and_after_it_is_accepted(address: Address) -> None:
    """Queued it has no inode and no owner; accepted it is held by this process."""
    with (
        open_listener(address, backlog=8) as listener,
        Observer() as observer,
        connect(address) as client,
    ):
        client.sendall(b"12345")
        (queued,) = observer.snapshot(address, Part.CONNECTIONS, pids=ME).connections
        assert (queued.accepted, queued.unread, queued.bytes_received) == (False, 5, 5)
        assert queued.peer == client.getsockname()[:2]
        with listener.accept()[0] as child:
            group = observer.snapshot(address, Part.CONNECTIONS, pids=ME)
            (held,) = group.held_by(ME)
            assert held.cookie == queued.cookie == cookie(child)
            assert held.idle_ms is None
            assert group.held_by(frozenset({1})) == ()
            assert child.recv(5) == b"12345"
            child.sendall(b"answer")
            assert client.recv(6) == b"answer"
            (held,) = observer.snapshot(address, Part.CONNECTIONS, pids=ME).connections
            assert held.unread == 0


def test_connections_of_another_host_are_not_this_groups() -> None:
    """127.0.0.2 has its own; a wildcard's connections come in at any address."""
    other = Address("127.0.0.2", 8000)
    with (
        open_listener(HOST, backlog=8),
        open_listener(other, backlog=8),
        Observer() as observer,
        connect(HOST) as client,
        connect(other),
    ):
        (seen,) = observer.snapshot(HOST, Part.CONNECTIONS).connections
        assert seen.peer == client.getsockname()
        assert len(observer.snapshot(EVERY, Part.CONNECTIONS).connections) == 2


def test_half_open_requests() -> None:
    """Counted by address when asked for: a deferred one has no child yet."""
    with open_listener(HOST, backlog=8) as listener, Observer() as observer:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        with connect(HOST):
            assert len(observer.snapshot(HOST, Part.REQUESTS).requests) == 1
            assert observer.snapshot(HOST.at(8001), Part.REQUESTS).requests == frozenset()
            assert observer.snapshot(HOST).requests == frozenset()


def test_owners_are_looked_for_among_the_pids_given() -> None:
    """Ascending, and every process that has it open."""
    with open_listener(HOST, backlog=8) as listener, Observer() as observer:
        with subprocess.Popen(
            [sys.executable, "-c", "print(flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            both = tuple(sorted([os.getpid(), process.pid]))
            (seen,) = observer.snapshot(HOST, pids=frozenset(both)).listeners
            assert seen.owners == both
            (seen,) = observer.snapshot(HOST, pids=frozenset({process.pid})).listeners
            assert seen.owners == (process.pid,)
            process.communicate(b"\n", timeout=PATIENCE)
        (seen,) = observer.snapshot(HOST, pids=frozenset(both)).listeners
        assert seen.owners == (os.getpid(),)


@pytest.mark.parametrize("address", [HOST, SIX], ids=str)
def test_one_connection_again(address: Address) -> None:
    """As it is now, with the inode that its accepting gave it; None once it is gone, though the
    same two ends may be joined anew.
    """
    with (
        open_listener(address, backlog=8) as listener,
        Observer() as observer,
        connect(address) as client,
    ):
        (queued,) = observer.snapshot(address, Part.CONNECTIONS).connections
        child = listener.accept()[0]
        client.sendall(b"12345")
        other = queued._replace(cookie=queued.cookie + 1)
        none, held = observer.again([other, queued])
        assert none is None
        assert held is not None
        assert (held.cookie, held.peer, held.unread) == (queued.cookie, queued.peer, 5)
        assert held.inode == os.fstat(child.fileno()).st_ino
        with child:
            child.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert observer.again([queued]) == [None]
