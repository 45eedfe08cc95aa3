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
from contextlib import ExitStack, contextmanager

import pytest
from tests.engine.segments import connect_all
from tests.linux.unprivileged import as_nobody
from tests.policy.clients import handshakes_over
from tests.waiting import PATIENCE

from segue.address import Address
from segue.engine.drain import Drain, GroupKey
from segue.engine.hash import Hash
from segue.engine.steering import IndexAddressed, counts_of, descriptors_of
from segue.errors import UsageError
from segue.linux import cbpf, sockopt
from segue.linux.sock_diag import SockDiag
from segue.linux.tun import Tun

IPV4 = Address("127.0.0.1", 8080)
IPV6 = Address("::1", 8080)
EVERY = [IPV4, IPV6, Address("0.0.0.0", 8080), Address("::", 8080)]

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("netns")]


class Bench:
    """A group under a steering, and clients that say where they got to."""

    def __init__(self, address: Address = IPV4, steering: Drain | None = None) -> None:
        self.address = address
        self.steering = steering or Drain()
        self.listeners: dict[int, socket.socket] = {}
        self._slots = itertools.count()

    def listen(self) -> int:
        """A new member; its slot."""
        slot = next(self._slots)
        # The most there is: a client that is not answered was dropped by no full queue.
        self.listeners[slot] = sockopt.open_listener(self.address, backlog=4096)
        self.listeners[slot].setblocking(False)
        self.steering.join(slot, self.listeners[slot])
        return slot

    def leave(self, slot: int) -> None:
        """The member leaves for good."""
        self.steering.leave(slot, self.listeners.pop(slot))

    def check(self) -> list[str]:
        """As the supervisor does it: with the cookies of everybody who listens."""
        with SockDiag() as diag:
            entries = diag.listeners(self.address.port, self.address.family)
        return self.steering.check([one.cookie for one in entries if one.host == self.address.host])

    def connect(self, port: int = 0) -> socket.socket:
        """A client's connection, from this port."""
        client = socket.socket(self.address.family)
        client.bind(sockopt.socket_address(self.address, self.address.near, port))
        client.settimeout(PATIENCE)
        client.connect(sockopt.socket_address(self.address, self.address.near, self.address.port))
        return client

    def queued(self) -> dict[int, int]:
        """How many connections wait at each slot; they are taken out."""
        found: dict[int, int] = {}
        for slot, listener in self.listeners.items():
            with contextlib.suppress(BlockingIOError):
                while sockopt.is_listening(listener):
                    listener.accept()[0].close()
                    found[slot] = found.get(slot, 0) + 1
        return found

    def spread(self, count: int) -> dict[int, int]:
        """Where so many new connections go."""
        with ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(self.connect())
            return self.queued()

    def close(self) -> None:
        """Close everything."""
        for listener in self.listeners.values():
            listener.close()
        self.steering.close()


@contextmanager
def bench(address: Address = IPV4, steering: Drain | None = None) -> Iterator[Bench]:
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


@pytest.mark.parametrize("address", [IPV4, IPV6], ids=str)
def test_while_members_leave_under_load_nobody_is_lost_or_misled(address: Address) -> None:
    """A hundred times the oldest member leaves, which moves one that shares to its index, and a
    newcomer takes its share, while two processes connect as fast as they can: none of them waits
    for a second SYN, and who never had a share never gets one.
    """
    with bench(address) as group:
        bystander = group.listen()
        members = [group.listen() for _ in range(4)]
        misled: Counter[int] = Counter()
        with storm(group.address) as finish:
            for _ in range(100):
                group.steering.share(dict.fromkeys(members[1:], 1.0))
                handshakes_over(address)
                group.queued()
                # The flip is over and its queue is empty: nothing more can come to it.
                assert members[0] not in group.queued()
                group.leave(members.pop(0))
                misled.update({bystander: group.queued().get(bystander, 0)})
                members.append(group.listen())
            told = finish()
        assert told[1:] == []
        assert int(told[0]) > 200
        assert misled == {bystander: 0}


@pytest.mark.parametrize("address", EVERY, ids=str)
def test_a_dump_tells_the_order_of_listen(address: Address) -> None:
    """In both families, whatever leaves and whoever is shut down and listens again."""
    with ExitStack() as stack:
        made = [stack.enter_context(sockopt.open_listener(address, backlog=8)) for _ in range(5)]
        key = GroupKey.of(made[0])
        order = [sockopt.cookie(one) for one in made]
        assert key.look() == order
        made[1].close()
        made[3].shutdown(socket.SHUT_RDWR)
        assert key.look() == [order[0], order[2], order[4]]
        made[3].listen(8)
        assert key.look() == [order[0], order[2], order[4], order[3]]


def test_a_group_is_one_address_only() -> None:
    """The same port at another host, and in the other family, is another group."""
    with bench() as group, bench(Address("127.0.0.2", 8080)) as other, bench(IPV6) as third:
        slots = [one.listen() for one in (group, other, third)]
        assert all(len(GroupKey.of(one.listeners[0]).look()) == 1 for one in (group, other, third))
        with pytest.raises(UsageError, match=r"127\.0\.0\.2:8080 is in another group"):
            group.steering.join(5, other.listeners[slots[1]])


@contextmanager
def strangers(count: int, address: Address = IPV4) -> Iterator[list[socket.socket]]:
    """Listeners at the same address that nobody told the steering of."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(sockopt.open_listener(address, backlog=64)) for _ in range(count)
        ]


def test_a_member_that_left_and_is_open_elsewhere_is_not_a_stranger() -> None:
    """A worker that finishes at the end of an instance has it still; nobody is told of it."""
    with bench() as group:
        a, b = group.listen(), group.listen()
        group.steering.share({a: 1})
        with group.listeners[b].dup():
            group.leave(b)
            assert group.check() == []
        assert group.check() == []


def test_a_member_that_is_to_end_listens_nowhere() -> None:
    """Whoever has it open too: the others keep their shares and indexes."""
    with bench() as group:
        a, b, c = group.listen(), group.listen(), group.listen()
        group.steering.share({a: 1, c: 1})
        with group.listeners[b].dup() as elsewhere:
            group.steering.leave(b, group.listeners.pop(b), end=True)
            assert not sockopt.is_listening(elsewhere)
            assert group.check() == []
            assert set(group.spread(20)) == {a, c}


def test_strangers_are_told_and_get_nothing() -> None:
    """They stand behind us when they come, and move us when they go: both are noticed."""
    with bench() as group:
        a = group.listen()
        with strangers(2):
            b = group.listen()
            group.steering.share({a: 1, b: 1})
            assert (
                group.check()
                == ["a listener that is not ours joined 127.0.0.1:8080: it gets no new connections"]
                * 2
            )
            assert group.check() == []
            assert sum(group.spread(30).values()) == 30
        # Before the check b's share is the hash's, which finds nobody but a and b any more.
        assert sum(group.spread(10).values()) == 10
        assert group.check() == ["a listener that is not ours left 127.0.0.1:8080"] * 2
        group.steering.share({b: 1})
        assert group.spread(20) == {b: 20}


@pytest.mark.parametrize("address", EVERY, ids=str)
def test_indexes_that_cannot_be_deduced_are_looked_for(address: Address) -> None:
    """Three strangers leave at once, so three of ours may have taken any of their indexes; a look
    finds each, and no client and no worker notices anything.
    """
    with bench(address) as group:
        with strangers(3, address):
            slots = [group.listen() for _ in range(4)]
            group.steering.share({slots[0]: 1})
            order = group.steering.order()
        group.check()
        now = group.steering.order()
        assert sorted(now) == sorted(order[3:])
        assert now != order[3:]
        assert group.queued() == {}
        for slot in slots:
            group.steering.share({slot: 1})
            assert group.spread(10) == {slot: 10}


def test_a_filter_of_the_owners_is_left_alone() -> None:
    """Then indexes are not looked for: the member gets nothing, the rest share, and it is said."""
    with bench() as group:
        with strangers(2):
            a, b, c = (group.listen() for _ in range(3))
            cbpf.attach_filter(group.listeners[b], [cbpf.answer(0xFFFF)])
            group.steering.share({a: 1, b: 1, c: 1})
        (said,) = group.check()
        assert said.startswith(
            "the kernel's index of 2 listener(s) at 127.0.0.1:8080 is not certain"
        )
        assert cbpf.filter_length(group.listeners[b]) == 1
        assert cbpf.filter_length(group.listeners[c]) == 0
        assert group.check() == []
        assert set(group.spread(30)) == {a}
        # Whoever comes next has an index that is certain.
        d = group.listen()
        group.steering.share({d: 1})
        assert group.spread(20) == {d: 20}


def test_where_no_index_is_certain_the_kernel_s_hash_chooses() -> None:
    """Nobody can be selected, so nobody is kept from new connections, and that is said."""
    with bench() as group:
        with strangers(2):
            a, b = group.listen(), group.listen()
            cbpf.attach_filter(group.listeners[a], [cbpf.answer(0xFFFF)])
            group.steering.share({a: 1, b: 1})
        (said,) = group.check()
        assert said.endswith("the kernel's hash chooses among them until the next restart")
        assert set(group.spread(60)) == {a, b}


def test_a_listener_that_its_worker_shut_down() -> None:
    """Its share is the others', it is said, and it has its share again when it listens again."""
    with bench() as group:
        a, b, c = (group.listen() for _ in range(3))
        group.steering.share({a: 1, b: 1, c: 1})
        group.listeners[a].shutdown(socket.SHUT_RDWR)
        assert group.check() == [
            "a worker shut its listener at 127.0.0.1:8080 down: it gets no new connections"
        ]
        assert set(group.spread(40)) == {b, c}
        group.listeners[a].listen(64)
        group.steering.rejoin(a, group.listeners[a])
        assert group.check() == []
        assert set(group.spread(60)) == {a, b, c}


def test_the_only_member_keeps_its_pin_over_a_cycle() -> None:
    """A group that was empty for a moment has lost its program."""
    with bench() as group:
        a = group.listen()
        group.steering.share({a: 1})
        group.listeners[a].shutdown(socket.SHUT_RDWR)
        group.listeners[a].listen(64)
        group.steering.rejoin(a, group.listeners[a])
        group.listen()
        assert group.spread(20) == {a: 20}


def test_a_successor_goes_on_with_the_picture() -> None:
    """From the record and the listeners, joined anew; what happened meanwhile is noticed."""
    with bench() as group:
        slots = [group.listen() for _ in range(4)]
        group.steering.share({slots[1]: 1})
        group.leave(slots[0])
        order = group.steering.order()
        assert order[0] == sockopt.cookie(group.listeners[slots[3]])
        group.listeners.pop(slots[2]).close()
        group.steering.close()
        group.steering = Drain()
        group.steering.adopt_order(order)
        for slot, listener in group.listeners.items():
            # Until its first share the old program is in force.
            assert group.spread(5) == {slots[1]: 5}
            group.steering.join(slot, listener)
        assert group.check() == []
        group.steering.share({slots[3]: 1})
        assert group.spread(20) == {slots[3]: 20}


def test_without_privileges_it_is_all_the_same() -> None:
    """Shares, a pin, a flip and departures as nobody."""

    def work() -> list[bool]:
        with bench() as group:
            a, b, c = (group.listen() for _ in range(3))
            group.steering.share({b: 1})
            found = [group.spread(10) == {b: 10}]
            group.steering.pin(9999, c)
            with group.connect(9999):
                found.append(group.queued() == {c: 1})
            group.leave(a)
            group.steering.share({c: 1})
            group.leave(b)
            return [*found, group.spread(10) == {c: 10}, group.check() == []]

    assert as_nobody(work) == [True] * 4


def test_without_the_right_to_attach_a_filter_an_unknown_place_is_said() -> None:
    """Where no index may be looked for, the others still get what is theirs."""

    def work() -> list[bool]:
        with bench() as group:
            with strangers(2):
                a, _, _ = (group.listen() for _ in range(3))
                group.steering.share({a: 1})
            said = group.check()
            unknown = any(cookie < 0 for cookie in group.steering.order())
            return [unknown == bool(said), group.spread(10) == {a: 10}]

    assert as_nobody(work) == [True, True]


WHO_HAS_A_HASH = cbpf.assemble(
    [
        cbpf.load_ancillary(cbpf.Ancillary.RXHASH),
        cbpf.jump_if(cbpf.Test.EQ, 0, then="none"),
        cbpf.answer(0),
        cbpf.Label("none"),
        cbpf.answer(1),
    ]
)


def test_no_flow_hash_no_matter() -> None:
    """Packets from a TUN device carry none: address and port are mixed instead, and spread."""
    with bench(Address("10.9.0.1", 8080)) as group, Tun() as tun:
        tun.configure("10.9.0.1/24")
        slots = [group.listen() for _ in range(4)]
        group.steering.share(dict.fromkeys(slots, 1.0))
        # One index for those with a hash, another for those without.
        cbpf.attach_reuseport(group.listeners[slots[0]], WHO_HAS_A_HASH)
        sources = [Address(f"10.9.0.{2 + n % 50}", 20000 + 2 * n) for n in range(400)]
        assert connect_all(tun, sources, group.address) == 400
        assert group.queued() == {slots[1]: 400}
        group.steering.share(dict.fromkeys(slots, 1.0))
        sources = [Address(one.host, one.port + 1000) for one in sources]
        assert connect_all(tun, sources, group.address) == 400
        found = group.queued()
        # 5 sigma of a binomial with n = 400, p = 1/4 is 43.
        assert all(abs(found[slot] - 100) < 44 for slot in slots)


def test_what_makes_no_sense_is_refused() -> None:
    """And nothing has changed after it."""
    with bench() as group:
        a = group.listen()
        group.steering.share({a: 1})
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            with pytest.raises(UsageError, match="does not listen"):
                group.steering.join(7, deaf)
        steering, listener = group.steering, group.listeners[a]
        calls: list[tuple[Callable[[], None], str]] = [
            (lambda: steering.join(a, listener), "has a listener already"),
            (lambda: steering.share({9: 1}), "slot 9 has no listener"),
            (lambda: steering.share({a: 0}), "at least one"),
            (lambda: steering.share({a: -1}), "negative"),
            (lambda: steering.pin(80, 9), "cannot be pinned"),
            (lambda: steering.pin(0, a), "a port must be between 1 and 65535"),
            (lambda: steering.rejoin(9, listener), "never joined"),
        ]
        for call, complaint in calls:
            with pytest.raises(UsageError, match=complaint):
                call()
        assert group.spread(10) == {a: 10}
        assert (counts_of(steering), descriptors_of(steering)) == ({}, {})
        assert isinstance(steering, IndexAddressed)
