"""A group that is to end: nobody new comes in, and nobody who has come is lost."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from tests.bpf.objects import GOLDEN
from tests.policy.clients import IPV4, close, connect, deaf, hear, queue, taken, wait_depth
from tests.waiting import wait_until

from segue.engine import object as objects
from segue.engine.drain import Drain
from segue.engine.hash import Hash
from segue.engine.migrate import Migrate
from segue.engine.steering import Refusing, Steering
from segue.linux import sockopt
from segue.linux.sockopt import open_listener
from segue.observe.snapshot import Observer

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14"), pytest.mark.usefixtures("netns")]

EBPF: list[Callable[[], Steering]] = [
    Migrate,
    lambda: objects.steering(str(GOLDEN / "live.bpf.o")),
]
CLASSIC: list[Callable[[], Steering]] = [Drain, Hash]


class Group:
    """Two listeners that share new connections, steered by one engine."""

    def __init__(self, stack: ExitStack, make: Callable[[], Steering]) -> None:
        self.steering = make()
        stack.callback(self.steering.close)
        self.listeners: dict[int, socket.socket] = {}
        for slot in (0, 1):
            self.listeners[slot] = stack.enter_context(open_listener(IPV4, backlog=64))
            self.steering.join(slot, self.listeners[slot])
        self.steering.share({0: 1.0, 1: 1.0})

    def refuse(self) -> None:
        assert isinstance(self.steering, Refusing)
        assert self.steering.refuse(list(self.listeners.values()))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.mark.parametrize("make", EBPF + CLASSIC)
def test_what_came_before_is_finished(stack: ExitStack, make: Callable[[], Steering]) -> None:
    """Connections that wait, and a handshake under way, are there to be accepted."""
    group = Group(stack, make)
    waiting, half_open = queue(5), stack.enter_context(deaf())
    group.refuse()
    hear(half_open)
    assert sum(taken(group.listeners, 6).values()) == 6
    close(waiting)


@pytest.mark.parametrize("make", EBPF)
def test_a_client_is_refused_at_once(stack: ExitStack, make: Callable[[], Steering]) -> None:
    """By a reset, so that it or its balancer goes elsewhere; the listeners get nothing."""
    group = Group(stack, make)
    group.refuse()
    for _ in range(10):
        with pytest.raises(ConnectionRefusedError):
            connect()


@pytest.mark.parametrize("make", CLASSIC)
def test_a_client_hears_nothing_until_no_listener_is_left(
    stack: ExitStack, make: Callable[[], Steering]
) -> None:
    """Classic BPF cannot refuse: the SYN is dropped, and its repetition finds nobody."""
    group = Group(stack, make)
    group.refuse()
    client = stack.enter_context(socket.socket())
    client.setblocking(False)
    client.connect_ex((IPV4.host, IPV4.port))
    observer = stack.enter_context(Observer())

    def dropped() -> bool:
        return any(one.drops for one in observer.snapshot(IPV4).listeners)

    wait_until(dropped, "a dropped SYN")
    for slot, listener in group.listeners.items():
        group.steering.leave(slot, listener)

    def refused() -> bool:
        return client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED

    wait_until(refused, "a refusal")


def test_a_pin_is_followed_all_the_same(stack: ExitStack) -> None:
    """By it the supervisor finds out whether a program of its own is in force."""
    group = Group(stack, Migrate)
    group.refuse()
    group.steering.pin(4000, 1)
    with connect(source_port=4000):
        wait_depth(group.listeners[1], 1)


def test_a_locked_filter_is_no_error(stack: ExitStack) -> None:
    """Classic BPF has no other way to keep a SYN away, so the group goes on as before."""
    group = Group(stack, Drain)
    sockopt.lock_filter(group.listeners[1])
    assert isinstance(group.steering, Refusing)
    assert group.steering.refuse(list(group.listeners.values())) is False
