"""What a cycle must not change about a listener, and whom it does not take for a sibling."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest
from tests.policy.clients import close, deaf, hear, wait_depth
from tests.waiting import PATIENCE, wait_until

from segue.address import Address
from segue.engine.cycle import cycle
from segue.errors import KernelError, UsageError
from segue.linux import proc, sysctl
from segue.linux.sockopt import cookie, is_listening, open_listener
from segue.observe.snapshot import Observer, Part

pytestmark = [
    pytest.mark.root,
    pytest.mark.kernel("5.14"),
    pytest.mark.usefixtures("netns"),
]

HERE = Address("127.0.0.1", 8000)


@pytest.fixture
def observer() -> Iterator[Observer]:
    """In the test's namespace, where migration by hash is on."""
    sysctl.write("net.ipv4.tcp_migrate_req", "1")
    with Observer() as one:
        yield one


def test_a_port_that_the_kernel_chose_is_kept(observer: Observer) -> None:
    """Without a bind of its own, listen() would choose another; cookie and siblings stay too."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", 0))
        one.listen(5)
        here = Address(*one.getsockname())
        before = cookie(one)
        with open_listener(here, backlog=9):
            cycle(one, [], observer, here)
            assert one.getsockname() == (here.host, here.port)
            assert cookie(one) == before
            assert len(observer.snapshot(here).listeners) == 2


class Unbindable:
    """A listener whose port somebody else has got meanwhile."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener

    def __getattr__(self, name: str) -> object:
        return getattr(self._listener, name)

    def bind(self, where: object) -> None:
        raise OSError(errno.EADDRINUSE, "taken")


def test_a_port_that_is_lost_is_said(observer: Observer) -> None:
    """It listens, and nobody will find it."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", 0))
        one.listen(5)
        here = Address(*one.getsockname())
        with (
            open_listener(here, backlog=9),
            pytest.raises(KernelError, match="its port could not be had again"),
        ):
            cycle(Unbindable(one), [], observer, here)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value"), [(socket.TCP_MAXSEG, 1000), (socket.TCP_WINDOW_CLAMP, 20000)]
)
def test_options_that_a_shutdown_forgets_are_kept(
    observer: Observer, option: int, value: int
) -> None:
    """The two that tcp_disconnect sets back; where they were not set they stay so."""
    with open_listener(HERE, backlog=9) as one, open_listener(HERE, backlog=9) as two:
        unset = two.getsockopt(socket.IPPROTO_TCP, option)
        one.setsockopt(socket.IPPROTO_TCP, option, value)
        cycle(one, [], observer, HERE)
        cycle(two, [], observer, HERE)
        assert one.getsockopt(socket.IPPROTO_TCP, option) == value
        assert two.getsockopt(socket.IPPROTO_TCP, option) == unset


@pytest.mark.parametrize("backlog", [0, 1, 511])
def test_the_backlog_is_kept(observer: Observer, backlog: int) -> None:
    """Whatever it was."""
    with open_listener(HERE, backlog=backlog) as one, open_listener(HERE, backlog=9):
        assert cycle(one, [], observer, HERE).backlog == backlog
        seen = observer.snapshot(HERE).by_cookie(cookie(one))
        assert seen is not None
        assert seen.backlog == backlog


def test_half_open_requests_stay(observer: Observer) -> None:
    """They are their listener's again once it listens."""
    with (
        open_listener(HERE, backlog=9) as one,
        deaf(HERE) as client,
        open_listener(HERE, backlog=9),
    ):
        assert cycle(one, [], observer, HERE).moved == 0
        assert len(observer.snapshot(HERE, Part.REQUESTS).requests) == 1
        hear(client)
        wait_depth(one, 1)


def test_a_listener_of_another_interface_is_no_sibling(observer: Observer) -> None:
    """It is at the same address, but what waits could not migrate to it."""
    with open_listener(HERE, backlog=9) as one, socket.socket() as bound:
        clients = [socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE)]
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        bound.bind(("127.0.0.1", 8000))
        bound.listen(9)
        with pytest.raises(UsageError, match="the only listener"):
            cycle(one, [], observer, HERE)
        assert is_listening(one)
        assert observer.queued(HERE)[cookie(one)] == 1
        close(clients)


def test_a_stalled_owner_is_rescued_and_stays_stalled(observer: Observer) -> None:
    """Its queue goes to a sibling; that it was stopped was somebody's wish."""
    with (
        open_listener(HERE, backlog=9) as one,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[one.fileno()]) as owner,
    ):
        clients = [
            socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE) for _ in range(5)
        ]
        os.kill(owner.pid, signal.SIGSTOP)
        wait_until(lambda: proc.threads_stopped(owner.pid), "it stands still")
        with open_listener(HERE, backlog=9) as two:
            report = cycle(one, [owner.pid], observer, HERE)
            assert (report.moved, report.frozen) == (5, True)
            assert observer.queued(HERE) == {cookie(one): 0, cookie(two): 5}
        assert proc.run_state(owner.pid) == "T"
        os.kill(owner.pid, signal.SIGCONT)
        owner.communicate(b"", timeout=PATIENCE)
        close(clients)
