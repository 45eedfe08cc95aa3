"""Listening sockets: how they are made, what they say of themselves, why they are refused."""

from __future__ import annotations

import os
import socket

import pytest

from segue.address import Address
from segue.errors import KernelError, UsageError
from segue.linux import sockopt
from segue.linux.sockopt import cookie, is_listening, open_listener

HERE = Address("127.0.0.1", 8000)


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_members_of_a_group_share_an_address() -> None:
    """Each has a cookie of its own, and a duplicate has the same."""
    with open_listener(HERE, backlog=8) as one, open_listener(HERE, backlog=8) as two:
        assert is_listening(one)
        assert one.getsockname() == two.getsockname()
        assert cookie(one) != cookie(two)
        assert not os.get_inheritable(one.fileno())
        with one.dup() as same:
            assert cookie(same) == cookie(one)
        one.shutdown(socket.SHUT_RDWR)
        assert not is_listening(one)


@pytest.mark.root
@pytest.mark.usefixtures("netns")
@pytest.mark.parametrize("nodelay", [True, False])
def test_what_a_child_inherits(nodelay: bool) -> None:
    """TCP_NODELAY when it was asked for, and not otherwise."""
    with (
        open_listener(HERE, backlog=8, nodelay=nodelay) as listener,
        socket.create_connection(("127.0.0.1", 8000), timeout=2),
        listener.accept()[0] as child,
    ):
        assert bool(child.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) is nodelay


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_both_families_side_by_side() -> None:
    """An IPv6 wildcard leaves IPv4 alone."""
    with (
        open_listener(Address("::", 8000), backlog=8),
        open_listener(Address("0.0.0.0", 8000), backlog=8),
        socket.create_connection(("::1", 8000), timeout=2) as client,
    ):
        assert client.family == socket.AF_INET6


@pytest.mark.root
@pytest.mark.usefixtures("netns")
@pytest.mark.parametrize(
    ("address", "name", "advice"),
    [
        (HERE, "EADDRINUSE", "without SO_REUSEPORT"),
        (Address("192.0.2.1", 8000), "EADDRNOTAVAIL", "no interface"),
    ],
)
def test_why_a_listener_is_refused(address: Address, name: str, advice: str) -> None:
    """The errno, the address, and what to look for."""
    with (
        open_listener(HERE, backlog=8, reuseport=False),
        pytest.raises(KernelError, match=f"listening at {address}") as refused,
    ):
        open_listener(address, backlog=8)
    assert refused.value.name == name
    assert advice in refused.value.advice


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_a_zone_is_an_interface() -> None:
    """It becomes the scope; one that is not there is named, with those that are."""
    linked = Address("fe80::1", 8000, "lo")
    assert sockopt.socket_address(linked, linked.host, 80) == ("fe80::1", 80, 0, 1)
    with pytest.raises(UsageError, match=r"no interface 'eth9' \(there are lo\)"):
        sockopt.socket_address(Address("fe80::1", 8000, "eth9"), "fe80::1", 80)


def test_who_is_at_the_other_end() -> None:
    """Pid, uid and gid of who made a unix socket's connection."""
    left, right = socket.socketpair()
    with left, right:
        assert sockopt.peer_credentials(left) == (os.getpid(), os.getuid(), os.getgid())
