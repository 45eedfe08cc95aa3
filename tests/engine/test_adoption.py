"""SO_REUSEPORT on foreign listeners: who is found, what changes, what is refused."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.linux.unprivileged import as_nobody
from tests.waiting import PATIENCE

from segue.address import Address
from segue.engine.adoption import at_port, of_process, share, withdraw
from segue.errors import KernelError, NotSupported, SegueError, UsageError
from segue.linux import pidfd, sysctl
from segue.linux.sockopt import open_listener
from segue.observe.snapshot import Observer

pytestmark = pytest.mark.root

HERE = Address("127.0.0.1", 8080)

# Listens at the ports of its arguments, IPv4 and for the last IPv6, and has other sockets too.
SERVER = """
import socket, sys
held = [socket.socketpair(), socket.socket(), socket.socket(type=socket.SOCK_DGRAM)]
for port in sys.argv[1:-1]:
    held.append(socket.create_server(("127.0.0.1", int(port))))
held.append(socket.create_server(("::1", int(sys.argv[-1])), family=socket.AF_INET6))
print(flush=True)
input()
"""


@contextmanager
def server(*ports: int) -> Iterator[int]:
    """Its pid."""
    with subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", SERVER, *map(str, ports)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process.pid
        finally:
            process.communicate(b"\n", timeout=PATIENCE)


def test_all_listeners_of_a_process_are_found(netns: int) -> None:
    """Listening TCP sockets of both families, and nothing else; or those of one port."""
    with server(8080, 8081) as pid:
        found = of_process(pid)
        assert [str(one.address) for one in found] == ["127.0.0.1:8080", "[::1]:8081"]
        assert {(one.pid, one.uid, one.shareable) for one in found} == {(pid, 0, False)}
        assert [one.address.port for one in of_process(pid, 8081)] == [8081]


def test_the_listeners_of_a_port_are_found(netns: int) -> None:
    """Whatever their host, or only those at one address."""
    with server(8080, 8080) as pid, Observer() as observer:
        found = at_port(observer, 8080)
        assert [(one.pid, str(one.address)) for one in found] == [
            (pid, "127.0.0.1:8080"),
            (pid, "[::1]:8080"),
        ]
        (one,) = at_port(observer, 8080, Address("::1", 8080))
        assert one.cookie == found[1].cookie


def test_a_successor_can_bind_only_after(netns: int) -> None:
    """EADDRINUSE before, and again once it is withdrawn; between, a listener gets its part."""
    with server(8080, 8081) as pid:
        (owned,) = of_process(pid, 8080)
        share(owned)
        withdraw(owned)
        assert not of_process(pid, 8080)[0].shareable
        with pytest.raises(KernelError, match="EADDRINUSE"):
            open_listener(HERE, backlog=8)
        share(owned)
        assert of_process(pid, 8080)[0].shareable
        with open_listener(HERE, backlog=64) as successor:
            successor.settimeout(PATIENCE)
            clients = [socket.create_connection((HERE.host, HERE.port)) for _ in range(64)]
            successor.accept()[0].close()  # one of 64 in 2**64 tries does not get here
            for client in clients:
                client.close()


@pytest.mark.parametrize("address", [HERE, Address("::1", 8081)], ids=str)
@pytest.mark.parametrize("owner", [0, 65534])
def test_what_another_has_joined_is_not_withdrawn(netns: int, address: Address, owner: int) -> None:
    """The kernel would let others join all the same, past the group: the option stays on."""
    with server(8080, 8081) as pid:
        (owned,) = of_process(pid, address.port)
        with socket.socket(fileno=pidfd.duplicate(pid, owned.number)) as taken:
            os.fchown(taken.fileno(), owner, -1)
        (owned,) = of_process(pid, address.port)
        assert owned.uid == owner
        share(owned)
        with socket.socket(address.family) as successor:
            successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            os.fchown(successor.fileno(), owner, -1)
            successor.bind((address.host, address.port))
            successor.listen()
            with pytest.raises(NotSupported, match="another one has"):
                withdraw(owned)
        with pytest.raises(NotSupported, match="another one has"):
            withdraw(owned)
        assert of_process(pid, address.port)[0].shareable


@pytest.mark.kernel("5.14")
@pytest.mark.parametrize(("migrates", "kept"), [("1", 40), ("0", None)])
def test_what_waits_in_an_adopted_listener_migrates_with_the_sysctl(
    netns: int, migrates: str, kept: int | None
) -> None:
    """All 40 connections reach the successor when the old server is gone; else only its own."""
    sysctl.write("net.ipv4.tcp_migrate_req", migrates)
    with server(8080, 8081) as pid:
        (owned,) = of_process(pid, 8080)
        share(owned)
        clients = []
        with open_listener(HERE, backlog=64) as successor:
            clients = [socket.create_connection((HERE.host, HERE.port)) for _ in range(40)]
            with Observer() as observer:
                queues = observer.queued(HERE)
                assert len(queues) == 2
                os.kill(pid, 9)
                successor.settimeout(PATIENCE)
                expected = kept or 40 - queues[owned.cookie]
                for _ in range(expected):
                    successor.accept()[0].close()
                successor.setblocking(False)
                with pytest.raises(BlockingIOError):
                    successor.accept()
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    ("pid", "said"),
    [
        (0, "0 is not a process id; for a port write :0"),
        (99999999, "99999999 is not a process id"),
        (None, "has no listening TCP socket"),
    ],
    ids=["zero", "too large", "this one"],
)
def test_a_process_without_listeners_is_refused(netns: int, pid: int | None, said: str) -> None:
    """With what to write instead, if it was meant as a port."""
    with pytest.raises(UsageError, match=said):
        of_process(os.getpid() if pid is None else pid)


def test_a_port_that_is_not_among_them_is_said(netns: int) -> None:
    """By process, by port of the namespace, and by address."""
    with server(8080) as pid, Observer() as observer:
        with pytest.raises(UsageError, match=r"has no listening TCP socket at port 80$"):
            of_process(pid, 80)
        with pytest.raises(UsageError, match="no process listens at port 80 in this"):
            at_port(observer, 80)
        with pytest.raises(UsageError, match=r"no process listens at 127\.0\.0\.1:8080 in this"):
            at_port(observer, 8080, HERE)


def test_a_parent_is_told_which_child_listens(netns: int) -> None:
    """A shell that started the server is not the server."""
    line = f"{sys.executable} -S -E -c '{SERVER}' 8080; true"
    with subprocess.Popen(
        ["sh", "-c", line], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        with pytest.raises(UsageError, match=r"process \d+ below it has: name that one"):
            of_process(shell.pid)
        shell.communicate(b"\n", timeout=PATIENCE)


def test_a_process_that_is_gone_is_said() -> None:
    """By pid."""
    with subprocess.Popen(["true"]) as process:
        pass
    with pytest.raises(UsageError, match=f"there is no process {process.pid}"):
        of_process(process.pid)


def test_without_the_right_it_is_said_which(netns: int) -> None:
    """By pid the process is named, by port its uid; both name the capability."""
    with server(8080) as pid:

        def by_pid() -> str:
            try:
                of_process(pid)
            except SegueError as error:
                return str(error)
            return "found"

        def by_port() -> str:
            try:
                with Observer() as observer:
                    at_port(observer, 8080)
            except NotSupported as error:
                return str(error)
            return "found"

        assert f"looking at what process {pid}" in as_nobody(by_pid)
        assert "needs CAP_SYS_PTRACE" in as_nobody(by_pid)
        refused = as_nobody(by_port)
        assert "CAP_DAC_READ_SEARCH; here: no process can be seen" in refused
        assert refused.endswith("of uid 0")


def test_a_listener_that_was_replaced_is_not_touched(netns: int) -> None:
    """Its number may be another socket's by the time it is set."""
    with server(8080) as pid:
        (owned,) = of_process(pid)
        other = type(owned)(
            owned.address, owned.pid, owned.number, owned.cookie + 1, owned.uid, shareable=False
        )
        with pytest.raises(KernelError, match="it was closed meanwhile"):
            share(other)
        assert not of_process(pid)[0].shareable
