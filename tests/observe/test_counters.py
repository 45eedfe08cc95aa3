"""The counters that tell a lost connection, on the live kernel."""

from __future__ import annotations

import socket

import pytest
from tests.waiting import PATIENCE

from segue.address import Address
from segue.linux import sysctl
from segue.linux.sockopt import open_listener
from segue.observe.counters import Counters


def test_a_difference_is_taken_field_by_field() -> None:
    """No difference at all is false."""
    later, earlier = Counters(9, 8, 7, 6, 5, 4), Counters(1, 2, 3, 4, 5, 0)
    assert later - earlier == Counters(8, 6, 4, 2, 0, 4)
    assert not later - later
    assert Counters(not_migrated=1)


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_a_reset_child_is_counted() -> None:
    """The only listener closes with one connection queued: one reset, one torn down."""
    before = Counters.read()
    listener = open_listener(Address("127.0.0.1", 8000), backlog=8)
    with socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE) as client:
        listener.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert Counters.read() - before == Counters(out_rsts=1, estab_resets=2)


@pytest.mark.root
@pytest.mark.kernel("5.14")
@pytest.mark.usefixtures("netns")
def test_a_migration_and_a_vain_one_are_counted() -> None:
    """A queued connection goes to the sibling, and nowhere when that one closes too."""
    sysctl.write("net.ipv4.tcp_migrate_req", "1")
    where = Address("127.0.0.1", 8000)
    first = open_listener(where, backlog=8)
    before = Counters.read()
    with socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE):
        second = open_listener(where, backlog=8)
        first.close()
        moved = Counters.read() - before
        second.close()
    assert moved == Counters(migrated=1)
    assert (Counters.read() - before).out_rsts == 1


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_an_overflow_is_a_drop_too() -> None:
    """A backlog of 0 holds one; the second connection's final ACK or SYN is dropped."""
    with open_listener(Address("127.0.0.1", 8000), backlog=0), socket.socket() as second:
        before = Counters.read()
        with socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE):
            assert not Counters.read() - before
            second.setblocking(False)
            second.connect_ex(("127.0.0.1", 8000))
            lost = Counters.read() - before
    assert lost.listen_overflows == lost.listen_drops == 1
