"""Listening sockets: how they are made, what they say of themselves, why they are refused."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import ExitStack

import pytest
from tests.waiting import PATIENCE

from segue.address import Address
from segue.errors import KernelError, UsageError
from segue.linux import sockopt, sysctl
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
        socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE),
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
        socket.create_connection(("::1", 8000), timeout=PATIENCE) as client,
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


@pytest.mark.root
@pytest.mark.usefixtures("netns")
@pytest.mark.parametrize("address", [HERE, Address("::1", 8000)], ids=str)
def test_the_options_of_an_audit(address: Address) -> None:
    """What was set is read back by the name of its constant; a family has only its own."""
    with open_listener(address, backlog=8, nodelay=False) as one:
        before = sockopt.settings(one)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 3)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)
        after = sockopt.settings(one)
    assert before["SO_REUSEPORT"] == 1
    assert isinstance(before["TCP_CONGESTION"], str)
    assert ("IPV6_V6ONLY" in before) == (address.family == socket.AF_INET6)
    changed = {name: value for name, value in after.items() if before[name] != value}
    assert changed == {"TCP_DEFER_ACCEPT": 3, "TCP_NODELAY": 1, "SO_MARK": 7}


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_the_backlog_is_capped_by_somaxconn() -> None:
    """A larger one is no error; the listener drops, and counts, what is beyond the cap."""
    sysctl.write("net.core.somaxconn", "1")
    with ExitStack() as stack:
        listener = stack.enter_context(open_listener(HERE, backlog=100))
        for _ in range(2):  # a backlog of N holds N + 1
            stack.enter_context(socket.create_connection((HERE.host, HERE.port), timeout=PATIENCE))
        assert sockopt.drops(listener) == 0
        late = stack.enter_context(socket.socket())
        late.setblocking(False)
        late.connect_ex((HERE.host, HERE.port))
        assert sockopt.drops(listener) == 1


@pytest.mark.root
@pytest.mark.program("ip")
@pytest.mark.usefixtures("netns")
def test_where_a_socket_is() -> None:
    """The address it was opened with, zone and all."""
    for address in (HERE, Address("::", 8001), Address("fe80::1", 8002, "lo")):
        if address.zone:
            # Without nodad it is tentative for a moment, and cannot be bound to.
            subprocess.run(["ip", "address", "add", "fe80::1/64", "dev", "lo", "nodad"], check=True)
        with open_listener(address, backlog=1) as listener:
            assert sockopt.local_address(listener) == address


def test_what_has_no_address_is_refused() -> None:
    """A unix socket, a UDP one, and one that is not bound."""
    for family, kind in (
        (socket.AF_UNIX, socket.SOCK_STREAM),
        (socket.AF_INET, socket.SOCK_DGRAM),
        (socket.AF_INET, socket.SOCK_STREAM),
    ):
        with socket.socket(family, kind) as one, pytest.raises(UsageError, match="this"):
            sockopt.local_address(one)


@pytest.mark.root
def test_a_port_that_is_chosen_late_serves_several_targets(netns: int) -> None:
    """One port in all, and two connections from one address to two targets hold it."""
    sysctl.write("net.ipv4.ip_local_port_range", "40000 40000")
    with ExitStack() as stack:
        for number in (1, 2):
            listener = socket.create_server((f"127.0.0.{number}", 8080))
            stack.enter_context(listener)
        for number in (1, 2):
            sock = stack.enter_context(socket.socket())
            sockopt.choose_port_late(sock)
            sock.bind(("127.0.0.9", 0))
            sock.connect((f"127.0.0.{number}", 8080))
            assert sock.getsockname() == ("127.0.0.9", 40000)
