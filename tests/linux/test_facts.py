"""What docs/FACTS.md says of Linux and no other test holds."""

from __future__ import annotations

import errno
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.linux.unprivileged import as_nobody
from tests.waiting import PATIENCE

from segue.address import Address
from segue.errors import KernelError
from segue.lab.replay import replay
from segue.lab.sides import ModelSide, kernel, linux_here
from segue.linux import snmp
from segue.linux.sock_diag import SockDiag
from segue.linux.sockopt import drops, open_listener
from segue.model.profile import Difference

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

HERE = Address("127.0.0.1", 8000)
PAIR = ("127.0.0.1", 8000)


def switch_on() -> None:
    Path("/proc/sys/net/ipv4/tcp_migrate_req").write_text("1")


def queues() -> list[int]:
    with SockDiag() as diag:
        return [entry.rqueue for entry in diag.listeners(8000, socket.AF_INET)]


@pytest.mark.parametrize("end", ["close", "shut down", "shut its receiving side", "kill"])
def test_every_end_of_a_listener_moves_what_waits(netns: int, end: str) -> None:
    """All of it, to the other member; clients are not reset."""
    switch_on()
    with ExitStack() as stack:
        one = open_listener(HERE, backlog=20)
        stack.callback(one.close)
        clients = [socket.create_connection(PAIR, timeout=PATIENCE) for _ in range(20)]
        other = stack.enter_context(open_listener(HERE, backlog=20))
        if end == "kill":
            command = ["cat"]
            owner = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[one.fileno()])
            stack.enter_context(owner)
            one.close()
            owner.kill()
            owner.wait(PATIENCE)
        elif end == "close":
            one.close()
        else:
            one.shutdown(socket.SHUT_RDWR if end == "shut down" else socket.SHUT_RD)
        other.settimeout(PATIENCE)
        for client in clients:
            client.sendall(b"x")
        accepted = [stack.enter_context(other.accept()[0]) for _ in clients]
        assert [server.recv(9) for server in accepted] == [b"x"] * 20
        for client in clients:
            client.close()


def test_shutting_the_sending_side_of_a_listener_does_nothing(netns: int) -> None:
    """It listens on, with what it has queued; nothing moves."""
    switch_on()
    with ExitStack() as stack:
        both = [stack.enter_context(open_listener(HERE, backlog=20)) for _ in range(2)]
        for _ in range(20):
            stack.enter_context(socket.create_connection(PAIR, timeout=PATIENCE))
        before = queues()
        for listener in both:
            listener.shutdown(socket.SHUT_WR)
        assert queues() == before
        assert sum(before) == 20
        assert snmp.read()["TcpExt.TCPMigrateReqSuccess"] == 0


@pytest.mark.parametrize(
    ("family", "there"),
    [
        (socket.AF_INET, ("0.0.0.0", 8000)),
        (socket.AF_INET, ("127.0.0.2", 8000)),
        (socket.AF_INET6, ("::", 8000)),
    ],
)
def test_what_waits_migrates_within_its_group_only(
    netns: int, family: socket.AddressFamily, there: tuple[str, int]
) -> None:
    """A listener of another host, or of the other family, at the same port takes nothing."""
    switch_on()
    with socket.socket(family) as other, open_listener(HERE, backlog=9) as listener:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(there)
        other.listen(9)
        with socket.create_connection(PAIR, timeout=PATIENCE) as client:
            listener.close()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert snmp.read()["TcpExt.TCPMigrateReqFailure"] == 1


def test_a_group_is_of_one_user(netns: int) -> None:
    """Another user's socket cannot join: EADDRINUSE."""

    def join() -> int | None:
        try:
            open_listener(HERE, backlog=9).close()
        except KernelError as error:
            return error.errno
        return None

    with open_listener(HERE, backlog=9):
        assert as_nobody(join) == errno.EADDRINUSE
    assert as_nobody(join) is None


def test_a_deferred_handshake_counts_as_a_drop(netns: int) -> None:
    """One for each connection, though each is accepted."""
    with open_listener(HERE, backlog=9) as listener:
        for deferred, counted in ((0, 0), (1, 3)):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, deferred)
            for _ in range(3):
                with socket.create_connection(PAIR, timeout=PATIENCE) as client:
                    client.sendall(b"x")
                    listener.accept()[0].close()
            assert drops(listener) == counted


@pytest.mark.kernel("6.18")
@pytest.mark.timeout(300)  # soon after boot the comparison waits (FACTS, boot)
def test_a_migrated_fast_open_child_leaves_a_slot_too_many() -> None:
    """Of a limit of one, with one child migrated and waiting, another is taken; on 7.3 not."""
    story = """
        sysctl tcp_migrate_req 1
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        option B TCP_FASTOPEN 1
        listen A
        syn c hello
        listen B
        close A
        syn d hello
        """
    with kernel() as linux:
        told = replay(story, linux)
    assert replay(story, ModelSide(linux_here(), linux.steps)) == told
    stays = Difference.FAST_OPEN_SLOT_STAYS in linux_here()
    assert ("'TCPMigrateReqSuccess': 1, 'TCPFastOpenPassive': 2" in told[-1]) == stays
