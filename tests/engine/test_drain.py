"""Steering by classic BPF on the live kernel: who gets what, while members come and go."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from segue.address import Address
from segue.engine.drain import Drain, Place
from segue.engine.hash import Hash
from segue.engine.sounding import sound
from segue.engine.steering import Steering
from segue.errors import KernelError, UsageError
from segue.linux import cbpf, sockopt, sysctl
from segue.shares import SIZE
from tests.linux.unprivileged import as_nobody

IPV4 = Address("127.0.0.1", 8080)
IPV6 = Address("::1", 8080)
EVERY = [IPV4, IPV6, Address("0.0.0.0", 8080), Address("::", 8080)]

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("netns")]


class Bench:
    """A group under a steering, and clients that say where they got to."""

    def __init__(self, address: Address = IPV4, steering: Steering | None = None) -> None:
        self.address = address
        self.steering = steering or Drain()
        self.listeners: dict[int, socket.socket] = {}
        self._slots = itertools.count()

    def listen(self) -> int:
        """A new member; its slot."""
        slot = next(self._slots)
        self.listeners[slot] = sockopt.open_listener(self.address, backlog=1024)
        self.listeners[slot].setblocking(False)
        self.steering.join(slot, self.listeners[slot])
        return slot

    def leave(self, slot: int) -> None:
        """The member leaves for good."""
        self.steering.leave(slot, self.listeners.pop(slot))

    def check(self) -> list[str]:
        """As the supervisor does it: with the cookies of everybody who listens."""
        return self.steering.check(frozenset(Place.of(next(iter(self.listeners.values()))).look()))

    def connect(self, port: int = 0) -> socket.socket:
        """A client's connection, from this port."""
        client = socket.socket(self.address.family)
        client.bind(sockopt.socket_address(self.address, self.address.near, port))
        client.settimeout(5)
        client.connect(
            sockopt.socket_address(self.address, self.address.near, self.address.port)
        )
        return client

    def queued(self) -> dict[int, int]:
        """How many connections wait at each slot; they are taken out."""
        found: dict[int, int] = {}
        for slot, listener in self.listeners.items():
            with contextlib.suppress(BlockingIOError):
                while True:
                    listener.accept()[0].close()
                    found[slot] = found.get(slot, 0) + 1
        return found

    def spread(self, count: int) -> dict[int, int]:
        """Where so many new connections go."""
        clients = [self.connect() for _ in range(count)]
        found = self.queued()
        for client in clients:
            client.close()
        return found

    def close(self) -> None:
        """Close everything."""
        for listener in self.listeners.values():
            listener.close()
        self.steering.close()


@contextmanager
def bench(address: Address = IPV4, steering: Steering | None = None) -> Iterator[Bench]:
    made = Bench(address, steering)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("address", EVERY, ids=str)
def test_connections_follow_the_shares(address: Address) -> None:
    """Three of four, one of four, and none at all; then the flip to the one that had none."""
    with bench(address) as group:
        a, b, c = (group.listen() for _ in range(3))
        group.steering.share({a: 3, b: 1, c: 0})
        found = group.spread(400)
        assert set(found) == {a, b}
        # 5 sigma of a binomial with n = 400, p = 3/4 is 43.
        assert abs(found[a] - 300) < 44
        group.steering.share({c: 1})
        assert group.spread(50) == {c: 50}


def test_a_newcomer_gets_nothing_before_it_has_a_share() -> None:
    """Neither by listening nor by joining, and the others' shares stay as they are."""
    with bench() as group:
        a, b = group.listen(), group.listen()
        group.steering.share({a: 1, b: 1})
        group.listen()
        assert set(group.spread(60)) == {a, b}


@pytest.mark.parametrize("address", [IPV4, IPV6], ids=str)
def test_a_pin_beats_the_share_and_ends_with_unpin(address: Address) -> None:
    """A connection from a pinned port reaches its slot, before the first share and after it."""
    with bench(address) as group:
        slots = [group.listen() for _ in range(4)]
        for share in (False, True):
            if share:
                group.steering.share({slots[0]: 1})
            for slot in slots:
                with group.connect() as client:  # only to learn a free port
                    port = client.getsockname()[1]
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                group.queued()
                group.steering.pin(port, slot)
                with group.connect(port):
                    assert group.queued() == {slot: 1}
                group.steering.unpin(port)
        group.steering.unpin(1)
        assert group.spread(20) == {slots[0]: 20}


@pytest.mark.parametrize("make", [Drain, Hash])
def test_no_order_of_leaving_and_joining_misleads_a_connection(make: Callable[[], Drain]) -> None:
    """After every change each slot with a share gets its connections, and no other gets one."""
    chance = random.Random(7)
    with bench(steering=make()) as group:
        alive = [group.listen() for _ in range(4)]
        for _ in range(40):
            with_share = chance.sample(alive, chance.randint(1, len(alive)))
            group.steering.share(dict.fromkeys(with_share, 1.0))
            without = [slot for slot in alive if slot not in with_share]
            if without and chance.random() < 0.6:
                leaver = chance.choice(without)
                alive.remove(leaver)
                group.leave(leaver)
            elif len(alive) < 8:
                alive.append(group.listen())
            assert set(group.spread(12)) <= set(with_share)
            for slot in with_share:
                group.steering.pin(9, slot)
                with group.connect(9):
                    assert group.queued() == {slot: 1}
                group.steering.unpin(9)
            assert group.check() == []


RESET = b"\1\0\0\0\0\0\0\0"  # struct linger: close at once, leaving no TIME_WAIT


@contextmanager
def storm(address: Address, processes: int = 2) -> Iterator[Callable[[], list[str]]]:
    """Processes that connect as fast as they can; the yielded function ends them and tells every
    failure, and how many connections succeeded as the first line.
    """
    ends = []
    for _ in range(processes):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os._exit(_connect_for_ever(address, writer))
        os.close(writer)
        ends.append((child, reader))

    def finish() -> list[str]:
        lines: list[str] = []
        succeeded = 0
        while ends:
            child, reader = ends.pop()
            os.kill(child, signal.SIGTERM)
            with os.fdopen(reader) as file:
                told = file.read().splitlines()
            os.waitpid(child, 0)
            succeeded += int(told.pop())
            lines += told
        return [str(succeeded), *lines]

    try:
        yield finish
    finally:
        finish()


def _connect_for_ever(address: Address, writer: int) -> int:
    made, going = 0, [True]
    signal.signal(signal.SIGTERM, lambda *_: going.clear())
    with os.fdopen(writer, "w") as report:
        while going:
            try:
                # A SYN that was dropped is sent again after a second.
                with socket.create_connection((address.host, address.port), timeout=0.9) as one:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                made += 1
            except OSError as error:
                report.write(f"{error!r}\n")
        report.write(f"{made}\n")
    return 0


@pytest.mark.parametrize("make", [Drain, Hash])
def test_while_members_leave_under_load_nobody_is_lost_or_misled(
    make: Callable[[], Drain],
) -> None:
    """Members without a share come and go two hundred times, each departure moving the last, one
    with a share, into the hole, while two processes connect as fast as they can: none of them
    waits for a second SYN, and nobody without a share gets one.
    """
    with bench(steering=make()) as group:
        idle = [group.listen() for _ in range(3)]
        keep = [group.listen() for _ in range(3)]
        group.steering.share(dict.fromkeys(keep, 1.0))
        arrived: Counter[int] = Counter()
        with storm(group.address) as finish:
            for _ in range(100):
                arrived.update(group.queued())
                group.leave(idle.pop(0))
                # The next departure's last is again one that shares.
                idle.append(group.listen())
                idle.append(group.listen())
                arrived.update(group.queued())
                group.leave(idle.pop())
            told = finish()
        arrived.update(group.queued())
        assert told[1:] == []
        assert int(told[0]) > 200
        assert set(arrived) == set(keep)
