"""Options of living listeners, and the table of meanings against what the kernel does."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest
from tests.linux.unprivileged import as_nobody
from tests.waiting import PATIENCE, wait_until

from segue.address import Address
from segue.engine.audit import ADDRESS, BACKLOG, FILTER, MD5, MEANINGS, Level, OptionSource
from segue.engine.examination import Examination, examine
from segue.errors import NotSupported, UsageError
from segue.linux import cbpf, snmp, sysctl
from segue.linux.sockopt import AUDITED, cookie, drops, open_listener
from segue.observe.snapshot import Observer

pytestmark = pytest.mark.root

HERE = Address("127.0.0.1", 8080)
TCP_MD5SIG = 14  # include/uapi/linux/tcp.h
TCP_SAVED_SYN = 28
OPTIONS = {option.name: option for option in AUDITED}


@pytest.fixture
def pair(netns: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two listeners of one group, alike."""
    with open_listener(HERE, backlog=8) as one, open_listener(HERE, backlog=8) as two:
        yield one, two


def look(*allow: str) -> Examination:
    with Observer() as observer:
        return examine(observer, HERE, allow)


def named(found: Examination) -> dict[str, Level]:
    return {one.name: one.level for one in found.findings}


Pair = tuple[socket.socket, socket.socket]


def put(sock: socket.socket, name: str, value: int | bytes) -> None:
    sock.setsockopt(OPTIONS[name].level, OPTIONS[name].number, value)


def test_listeners_alike_have_no_findings(pair: Pair) -> None:
    """Both are seen, with their owner."""
    found = look()
    assert [one.owners for one in found.listeners] == [(os.getpid(),)] * 2
    assert found.findings == ()
    assert not found.matters


# Where 1 would be the default, or not far enough from it.
_VALUES: dict[str, int | bytes] = {
    "SO_BINDTODEVICE": b"lo",
    "SO_RCVBUF": 30000,
    "SO_SNDBUF": 30000,
    "TCP_KEEPIDLE": 77,
    "TCP_KEEPINTVL": 33,
    "TCP_MAXSEG": 1000,
    "TCP_WINDOW_CLAMP": 20000,
    "TCP_CONGESTION": b"reno",
    "TCP_NODELAY": 0,
    "TCP_QUICKACK": 0,
    "SO_REUSEPORT": 0,
    "SO_RCVLOWAT": 9,
    "IP_TOS": 0x20,
    "IP_TTL": 9,
    "SO_MAX_PACING_RATE": 100000,
    "SO_INCOMING_CPU": 0,
}


@pytest.mark.parametrize("name", [name for name in OPTIONS if not name.startswith("IPV6_")])
def test_each_option_that_is_set_on_one_is_found(pair: Pair, name: str) -> None:
    """At its level, and nothing else; the other side is untouched."""
    put(pair[1], name, _VALUES.get(name, 1))
    assert named(look()) == {name: MEANINGS[name].level}


def test_filters_and_backlogs_are_found_too(pair: Pair) -> None:
    """A filter by its instructions: two of the same length can be told apart."""
    cbpf.attach_filter(pair[0], [cbpf.answer(1000)])
    pair[1].listen(3)
    assert named(look()) == {FILTER: Level.REFUSE, BACKLOG: Level.FINE}
    cbpf.attach_filter(pair[1], [cbpf.answer(2000)])
    assert FILTER in named(look())
    cbpf.attach_filter(pair[1], [cbpf.answer(1000)])
    assert named(look(BACKLOG)) == {BACKLOG: Level.FINE}


def test_another_address_of_the_port_is_told_apart(pair: Pair) -> None:
    """The wildcard's listener is no member, and none of its options is compared."""
    with open_listener(Address("0.0.0.0", 8080), backlog=99, nodelay=False):
        found = look()
        assert named(found) == {ADDRESS: Level.WARN}
        assert not found.refused
        assert len(found.listeners) == 3


def test_ipv6_options_are_compared(netns: int) -> None:
    """Two groups by V6ONLY, at one address."""
    address = Address("::", 8080)
    with open_listener(address, backlog=8, v6only=True), socket.socket(socket.AF_INET6) as both:
        both.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        both.bind(("::", 8080))
        both.listen(8)
        with Observer() as observer:
            assert named(examine(observer, address)) == {"IPV6_V6ONLY": Level.REFUSE}
            both.close()
            with open_listener(address, backlog=8, v6only=True) as third:
                put(third, "IPV6_TCLASS", 8)
                put(third, "IPV6_UNICAST_HOPS", 9)
                levels = {"IPV6_TCLASS": Level.WARN, "IPV6_UNICAST_HOPS": Level.WARN}
                assert named(examine(observer, address)) == levels


def test_nobody_there_is_an_error(netns: int) -> None:
    """There is nothing to look at; who has the port at another address is said."""
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:8080 in this network \S+$"):
        look()
    with (
        open_listener(Address("0.0.0.0", 8080), backlog=8),
        pytest.raises(UsageError, match=r"namespace; 0\.0\.0\.0:8080 is listened at"),
    ):
        look()


def test_a_process_of_another_user_is_not_looked_into(pair: Pair) -> None:
    """The sentence says what would permit it."""

    def work() -> str:
        for inherited in pair:
            inherited.close()
        try:
            look()
        except NotSupported as error:
            return error.needs
        return "looked"

    assert "CAP_SYS_PTRACE" in as_nobody(work)


# Those that an accepted connection shows as they were set.
_SHOWN: dict[str, tuple[int | bytes, int | bytes]] = {
    "TCP_NODELAY": (1, 0),
    "SO_KEEPALIVE": (1, 0),
    "TCP_KEEPIDLE": (77, 99),
    "TCP_KEEPINTVL": (33, 44),
    "TCP_KEEPCNT": (3, 4),
    "TCP_USER_TIMEOUT": (7000, 9000),
    "TCP_LINGER2": (7, 9),
    "TCP_NOTSENT_LOWAT": (5000, 6000),
    "SO_RCVLOWAT": (3, 5),
    "SO_RCVBUF": (30000, 40000),
    "SO_SNDBUF": (30000, 40000),
    "SO_OOBINLINE": (1, 0),
    "SO_MAX_PACING_RATE": (10**6, 10**7),
    "IP_TOS": (0x20, 0x40),
    "IP_TTL": (9, 11),
    "SO_MARK": (7, 9),
    "TCP_CONGESTION": (b"reno", b"cubic"),
}


@pytest.mark.kernel("5.14")
@pytest.mark.parametrize("name", _SHOWN)
def test_the_kernel_does_what_the_table_says(netns: int, name: str) -> None:
    """A queued child comes with its source's value; a request with that of whom the table names.

    A connection that has sent nothing to a listener with TCP_DEFER_ACCEPT stays half-open, and
    moves when it sends.
    """
    sysctl.write("net.ipv4.tcp_migrate_req", "1")
    option = OPTIONS[name]

    def value(sock: socket.socket) -> bytes:
        found = sock.getsockopt(option.level, option.number, 16)
        return found.split(b"\0")[0] if option.text else found

    with open_listener(HERE, backlog=8) as source:
        put(source, "TCP_DEFER_ACCEPT", 30)
        put(source, name, _SHOWN[name][0])
        there = (HERE.host, HERE.port)
        child, request = (socket.create_connection(there, timeout=PATIENCE) for _ in range(2))
        with child, request, Observer() as observer:
            child.sendall(b"1")
            wait_until(lambda: observer.snapshot(HERE).listeners[0].queue, "the queued child")
            with open_listener(HERE, backlog=8) as target:
                put(target, name, _SHOWN[name][1])
                before = {OptionSource.SOURCE: value(source), OptionSource.TARGET: value(target)}
                assert before[OptionSource.SOURCE] != before[OptionSource.TARGET]
                source.close()
                target.settimeout(PATIENCE)
                with target.accept()[0] as accepted:
                    assert accepted.getpeername() == child.getsockname()
                    assert value(accepted) == before[OptionSource.SOURCE]
                request.sendall(b"1")
                with target.accept()[0] as accepted:
                    assert accepted.getpeername() == request.getsockname()
                    assert value(accepted) == before[MEANINGS[name].request]


@pytest.mark.kernel("5.14")
def test_a_request_meets_its_targets_filter(netns: int) -> None:
    """It is dropped there for good, while a queued child passed its source's and comes through."""
    sysctl.write("net.ipv4.tcp_migrate_req", "1")
    there = (HERE.host, HERE.port)
    with open_listener(HERE, backlog=8) as source:
        put(source, "TCP_DEFER_ACCEPT", 30)
        child, request = (socket.create_connection(there, timeout=PATIENCE) for _ in range(2))
        with child, request, open_listener(HERE, backlog=8) as target, Observer() as observer:
            cbpf.attach_filter(target, [cbpf.answer(0)])
            child.sendall(b"1")
            wait_until(lambda: sum(observer.queued(HERE).values()), "the queued child")
            source.close()
            target.settimeout(PATIENCE)
            with target.accept()[0] as accepted:
                assert accepted.getpeername() == child.getsockname()
            request.sendall(b"1")
            wait_until(lambda: drops(target), "a drop at the target")
            assert observer.queued(HERE) == {cookie(target): 0}


def sign(sock: socket.socket, key: bytes) -> None:
    """Struct tcp_md5sig: segments from and to 127.0.0.1 bear this key's signature."""
    peer = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(HERE.host)).ljust(128, b"\0")
    value = peer + struct.pack("=BBHi", 0, 0, len(key), 0) + key.ljust(80, b"\0")
    sock.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, value)


def test_keys_are_compared_and_not_told(pair: Pair) -> None:
    """One that only one has, another one, the same; nothing of it can be read in the finding."""
    sign(pair[0], b"secret")
    found = look()
    assert named(found) == {MD5: Level.REFUSE}
    assert {str(value).split(" (")[0] for value, _ in found.findings[0].holders} == {
        "none",
        "1 keys",
    }
    sign(pair[1], b"Secret")
    assert named(look()) == {MD5: Level.REFUSE}
    assert "ecret" not in repr(look())
    sign(pair[1], b"secret")
    assert named(look()) == {}


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(b"secret", marks=pytest.mark.kernel("5.14")),
        pytest.param(b"other", marks=pytest.mark.kernel("6.18")),
    ],
)
def test_a_request_needs_its_key_at_the_target(netns: int, key: bytes) -> None:
    """With it the connection goes on; without, it is accepted and then never heard again.

    Up to Linux 6.16 such a request is not even accepted.
    """
    sysctl.write("net.ipv4.tcp_migrate_req", "1")
    with open_listener(HERE, backlog=8) as source, socket.socket() as request:
        put(source, "TCP_DEFER_ACCEPT", 30)
        for one in (source, request):
            sign(one, b"secret")
        request.settimeout(PATIENCE)
        request.connect((HERE.host, HERE.port))
        with open_listener(HERE, backlog=8) as target:
            sign(target, key)
            source.close()
            request.sendall(b"1")
            target.settimeout(PATIENCE)
            before = snmp.read()
            with target.accept()[0] as accepted:
                accepted.settimeout(PATIENCE)
                assert accepted.recv(1) == b"1"
                request.sendall(b"2")
                if key == b"secret":
                    assert accepted.recv(1) == b"2"
                    return
                name = "TcpExt.TCPMD5Failure"
                wait_until(lambda: snmp.read()[name] > before[name], "a segment is refused")
                accepted.setblocking(False)
                with pytest.raises(BlockingIOError):
                    accepted.recv(1)


@pytest.mark.kernel("5.14")
def test_the_saved_syn_is_that_of_the_listener_it_came_by(netns: int) -> None:
    """So a server that counts on it finds none, which is why the difference is refused."""
    sysctl.write("net.ipv4.tcp_migrate_req", "1")
    there = (HERE.host, HERE.port)
    with (
        open_listener(HERE, backlog=8) as source,
        socket.create_connection(there, timeout=PATIENCE),
        open_listener(HERE, backlog=8) as target,
    ):
        put(target, "TCP_SAVE_SYN", 1)
        source.close()
        target.settimeout(PATIENCE)
        with target.accept()[0] as migrated:
            assert migrated.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, 256) == b""
        with socket.create_connection(there, timeout=PATIENCE), target.accept()[0] as native:
            assert native.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, 256)
