"""Moving what waits at a listener, which goes on listening, without its owner noticing."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.waiting import PATIENCE

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
# Accepts in a loop, by epoll as servers do; says at the end what was not an accept.
OWNER = """
import select, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
listener.setblocking(False)
epoll = select.epoll()
epoll.register(listener, select.EPOLLIN)
epoll.register(0, select.EPOLLIN)
print("ready", flush=True)
seen = set()
while True:
    for fd, events in epoll.poll():
        if fd == 0:
            print(*sorted(seen), "end", flush=True)
            sys.exit()
        if events & ~select.EPOLLIN:
            seen.add(f"events{events}")
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            pass
        except OSError as error:
            seen.add(error.__class__.__name__ + str(error.errno))
"""


@pytest.fixture
def observer() -> Iterator[Observer]:
    """In the test's namespace, where migration by hash is on."""
    sysctl.write("net.ipv4.tcp_migrate_req", "1")
    with Observer() as one:
        yield one


def owner_of(listener: socket.socket) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(listener.fileno())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[listener.fileno()],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_a_queue_of_fifty_moves_to_a_sibling(observer: Observer) -> None:
    """All of it, to the other member; backlog and identity stay, and it listens on."""
    with ExitStack() as stack:
        one = stack.enter_context(open_listener(HERE, backlog=60))
        for _ in range(50):
            stack.enter_context(socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE))
        two = stack.enter_context(open_listener(HERE, backlog=60))
        report = cycle(one, [], observer, HERE)
        assert (report.moved, report.backlog, report.frozen) == (50, 60, True)
        told = {
            seen.cookie: (seen.queue, seen.backlog) for seen in observer.snapshot(HERE).listeners
        }
        assert told == {cookie(one): (0, 60), cookie(two): (50, 60)}


def test_the_only_member_is_refused_and_keeps_all(observer: Observer) -> None:
    """Its queue would be reset; nothing is done, and its owner was not frozen."""
    with (
        open_listener(HERE, backlog=9) as one,
        socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE),
        subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process,
    ):
        before = observer.snapshot(HERE, Part.CONNECTIONS)
        with pytest.raises(UsageError, match=r"the only listener at .* cannot be cycled"):
            cycle(one, [process.pid], observer, HERE)
        assert observer.snapshot(HERE, Part.CONNECTIONS).listeners == before.listeners
        assert is_listening(one)
        process.communicate(b"", timeout=PATIENCE)


def test_a_listener_of_another_address_is_refused(observer: Observer) -> None:
    """With nothing done to it."""
    with (
        open_listener(HERE, backlog=9),
        open_listener(HERE, backlog=9),
        open_listener(HERE.at(8001), backlog=9) as other,
    ):
        with pytest.raises(UsageError, match="does not listen at"):
            cycle(other, [], observer, HERE)
        assert is_listening(other)


def test_the_owner_sees_nothing_in_a_hundred_cycles(observer: Observer) -> None:
    """A process that accepts in a loop gets neither EINVAL nor EPOLLHUP, under connections."""
    with open_listener(HERE, backlog=9) as one, open_listener(HERE, backlog=200):
        with owner_of(one) as process:
            for _ in range(100):
                with socket.create_connection(("127.0.0.1", 8000), timeout=PATIENCE):
                    assert cycle(one, [process.pid], observer, HERE).frozen
            assert proc.run_state(process.pid) != "T"
            output, _ = process.communicate(b"\n", timeout=PATIENCE)
        assert output == b"end\n"


class Refuses:
    """A listener that cannot listen again."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener

    def __getattr__(self, name: str) -> object:
        return getattr(self._listener, name)

    def listen(self, backlog: int) -> None:
        raise OSError(98, "taken")


def test_the_owner_runs_again_when_listen_fails(observer: Observer) -> None:
    """Frozen for as long as the two calls take, whatever they bring."""
    with (
        open_listener(HERE, backlog=9) as one,
        open_listener(HERE, backlog=9),
        owner_of(one) as process,
    ):
        with pytest.raises(KernelError, match="listen failed with EADDRINUSE"):
            cycle(Refuses(one), [process.pid], observer, HERE)  # type: ignore[arg-type]
        assert not proc.threads_stopped(process.pid)
        process.communicate(b"\n", timeout=PATIENCE)


def test_an_owner_that_is_gone_is_told(observer: Observer) -> None:
    """The cycle is made; that not every owner was frozen is in the report."""
    with subprocess.Popen(["true"]) as process:
        pass
    with open_listener(HERE, backlog=9) as one, open_listener(HERE, backlog=9):
        assert not cycle(one, [process.pid], observer, HERE).frozen
