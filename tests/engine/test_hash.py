"""Drain's steering with the kernel's own migration switched on."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest
from tests.waiting import PATIENCE

from segue.address import Address
from segue.engine.drain import Drain
from segue.engine.hash import Hash
from segue.linux import sysctl
from segue.linux.sockopt import cookie, open_listener
from segue.observe.counters import Counters
from segue.observe.snapshot import Observer

pytestmark = [
    pytest.mark.root,
    pytest.mark.kernel("5.14"),
    pytest.mark.usefixtures("netns"),
]

HERE = Address("127.0.0.1", 8000)


@pytest.mark.parametrize(("steering", "switch"), [(Hash(), "1"), (Drain(), "0")], ids=["on", "off"])
def test_what_a_leaving_member_holds(steering: Drain, switch: str) -> None:
    """With the switch on, twenty queued connections go to the sibling; without, all are reset."""
    sysctl.write("net.ipv4.tcp_migrate_req", switch)
    with ExitStack() as stack:
        observer = stack.enter_context(Observer())
        one, two = (open_listener(HERE, backlog=64) for _ in range(2))
        stack.enter_context(one)
        stack.enter_context(two)
        steering.join(0, one)
        steering.join(1, two)
        steering.share({0: 1.0})
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE))
            for _ in range(20)
        ]
        queues = {seen.cookie: seen.queue for seen in observer.snapshot(HERE).listeners}
        assert queues == {cookie(one): 20, cookie(two): 0}
        steering.share({1: 1.0})
        before = Counters.read()
        steering.leave(0, one)
        told = Counters.read() - before
        (left,) = observer.snapshot(HERE).listeners
        assert left.cookie == cookie(two)
        if steering.migrates:
            assert (left.queue, told) == (20, Counters(migrated=20))
            for client in clients:
                client.sendall(b"?")
            two.settimeout(PATIENCE)
            peers = set()
            for _ in clients:
                child, peer = two.accept()
                with child:
                    assert child.recv(1) == b"?"
                peers.add(peer)
            assert peers == {client.getsockname() for client in clients}
        else:
            assert (left.queue, told.out_rsts) == (0, 20)
