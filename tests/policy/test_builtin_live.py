"""The built-in program in the kernel: where connections go, and what is counted."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from tests.policy.clients import (
    IPV4,
    IPV6,
    Repeater,
    close,
    connect,
    deaf,
    depth,
    hear,
    queue,
    taken,
    wait_depth,
)
from tests.waiting import PATIENCE, wait_until

from segue.address import Address
from segue.engine.loaded import Loaded, load
from segue.linux import sysctl
from segue.linux.bpf import attach_reuseport
from segue.linux.sockopt import open_listener
from segue.policy import builtin
from segue.policy.builtin import NOBODY, UNSELECTED, encode_number, encode_table
from segue.policy.counts import Counts
from segue.shares import SIZE, fill

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

TCP_FASTOPEN = 23
# Client and server without cookies, for every listener: flags 1, 2, 4, 0x200 and 0x400.
FASTOPEN_FOR_ALL = 0x607


@dataclass
class Rig:
    """The program, its maps and a group of listeners, by slot."""

    stack: ExitStack
    loaded: Loaded = field(init=False)
    listeners: dict[int, socket.socket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.loaded = load()
        for one in (self.loaded.program, *self.loaded.maps.values()):
            self.stack.enter_context(one)
        self.sockets, self.tables, self.control, self.pins, self.counters = (
            self.loaded.maps[name] for name in ("sockets", "tables", "control", "pins", "counters")
        )

    def listen(self, *slots: int, address: Address = IPV4) -> None:
        for slot in slots:
            listener = self.stack.enter_context(open_listener(address, backlog=512))
            self.listeners[slot] = listener
            self.sockets.update(encode_number(slot), builtin.encode_socket(listener.fileno()))
            attach_reuseport(listener.fileno(), self.loaded.program.fileno())

    def table(self, entries: list[int], copy: int = 0) -> None:
        self.tables.update(encode_number(copy), encode_table(entries))

    def counts(self, element: int) -> Counts:
        return builtin.decode_counters(self.counters.lookup_percpu(encode_number(element)) or [])

    def leave(self, slot: int) -> None:
        """Close the listener, with whatever waits there."""
        self.listeners.pop(slot).close()


@pytest.fixture
def rig(netns: int) -> Iterator[Rig]:
    """Nothing but the program moves a connection here: the sysctl is off."""
    sysctl.write("net.ipv4.tcp_migrate_req", "0")
    with ExitStack() as stack:
        yield Rig(stack)


def wait_counts(rig: Rig, slot: int, wanted: Counts) -> None:
    """Until the SYN of a client that hears nothing has arrived."""
    wait_until(lambda: rig.counts(slot) == wanted, f"{wanted} at {slot}")


def test_new_connections_follow_the_table(rig: Rig) -> None:
    """Only slots in the table get any, and each as many as its counter says."""
    rig.listen(0, 1, 2, 3)
    rig.table(fill({1: 1, 3: 3}))
    clients = queue(200)
    got = taken(rig.listeners, 200)
    assert got[0] == got[2] == 0
    assert got[1] + got[3] == 200
    # Mean 50 and 150, deviation 6: a share that is not followed is far outside.
    assert 15 < got[1] < 100
    assert {slot: rig.counts(slot) for slot in got} == {
        slot: Counts(new=number) for slot, number in got.items()
    }
    assert not rig.counts(UNSELECTED)
    close(clients)


def test_the_ack_of_a_syn_cookie_is_no_new_connection(rig: Rig) -> None:
    """The kernel looks for a listener twice, for the SYN and for the ACK; one of them counts."""
    sysctl.write("net.ipv4.tcp_syncookies", "2")
    rig.listen(0, 1)
    rig.table([1] * SIZE)
    clients = queue(20)
    assert taken(rig.listeners, 20) == {0: 0, 1: 20}
    assert rig.counts(1) == Counts(new=20)
    close(clients)


def test_one_write_flips_everything(rig: Rig) -> None:
    """The other copy is filled aside, without effect, until the one write."""
    rig.listen(0, 1)
    rig.table([0] * SIZE)
    rig.table([1] * SIZE, copy=1)
    clients = queue(30)
    assert taken(rig.listeners, 30) == {0: 30, 1: 0}
    rig.control.update(encode_number(0), builtin.encode_control(1))
    clients += queue(30)
    assert taken(rig.listeners, 30) == {0: 0, 1: 30}
    close(clients)


@pytest.mark.parametrize("address", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_a_pinned_source_port_goes_to_its_slot(rig: Rig, address: Address) -> None:
    """Whatever the table says; every other port goes by the table."""
    rig.listen(0, 1, address=address)
    rig.table([0] * SIZE)
    rig.pins.update(encode_number(40001), encode_number(1))
    with connect(address, 40001):
        assert taken(rig.listeners, 1) == {0: 0, 1: 1}
    with connect(address, 40002):
        assert taken(rig.listeners, 1) == {0: 1, 1: 0}
    assert rig.counts(0) == rig.counts(1) == Counts(new=1)


def test_a_pin_to_nobody_is_passed_over(rig: Rig) -> None:
    """The table decides then, and that is counted as falling back."""
    rig.listen(0)
    rig.table([0] * SIZE)
    rig.pins.update(encode_number(40001), encode_number(7))
    with connect(source_port=40001):
        assert taken(rig.listeners, 1) == {0: 1}
    assert rig.counts(0) == Counts(new=1, fell_back=1)


@pytest.mark.parametrize("address", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_queued_children_migrate_by_the_table(rig: Rig, address: Address) -> None:
    """All of a closing listener's, to the slot the table names and no other, nothing lost."""
    rig.listen(0, 1, 2, address=address)
    rig.table([0] * SIZE)
    clients = queue(20, address)
    for number, client in enumerate(clients):
        client.sendall(bytes([number]))
    wait_depth(rig.listeners[0], 20)
    rig.table([2] * SIZE)
    rig.leave(0)
    heard = set()
    for _ in clients:
        rig.listeners[2].settimeout(PATIENCE)
        with rig.listeners[2].accept()[0] as child:
            heard.add(child.recv(1)[0])
    assert heard == set(range(20))
    assert depth(rig.listeners[1]) == 0
    assert rig.counts(0) == Counts(new=20)
    assert rig.counts(2) == Counts(child=20)
    close(clients)


def test_a_half_open_request_migrates_by_the_table(rig: Rig) -> None:
    """Its client has not answered the SYN-ACK; it is accepted by the table's slot when it does.

    It counts once, however often the client has repeated its SYN meanwhile.
    """
    rig.listen(0, 1, 2)
    rig.table([0] * SIZE)
    with Repeater() as repeater, deaf() as client:
        wait_counts(rig, 0, Counts(new=1))
        rig.table([2] * SIZE)
        rig.leave(0)
        repeater.repeat_syn(times=3)
        hear(client)
        rig.listeners[2].settimeout(PATIENCE)
        rig.listeners[2].accept()[0].close()
    assert rig.counts(0) == Counts(new=1)
    assert rig.counts(2) == Counts(request=1)


def test_a_fast_open_child_migrates_by_the_table(rig: Rig) -> None:
    """Its client has not answered the SYN-ACK, and its data is here already."""
    sysctl.write("net.ipv4.tcp_fastopen", str(FASTOPEN_FOR_ALL))
    rig.listen(0, 1, 2)
    for listener in rig.listeners.values():
        listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
    rig.table([0] * SIZE)
    with deaf(early=b"early"):
        wait_depth(rig.listeners[0], 1)
        rig.table([2] * SIZE)
        rig.leave(0)
        rig.listeners[2].settimeout(PATIENCE)
        with rig.listeners[2].accept()[0] as child:
            assert child.recv(16) == b"early"
    assert rig.counts(0) == Counts(new=1)
    assert rig.counts(2) == Counts(fastopen=1)


def test_when_the_slot_is_gone_the_others_are_scanned(rig: Rig) -> None:
    """New connections and queued children reach a slot with a share, and count as fallen back."""
    rig.listen(0, 1, 2, 3)
    rig.table([0] * SIZE)
    children = queue(30)
    wait_depth(rig.listeners[0], 30)
    # Nearly everything to slot 9, which nobody has; 2 and 3 are the ones left to scan.
    rig.table([9] * (SIZE - 2) + [2, 3])
    rig.leave(0)
    clients = queue(30)
    got = taken(rig.listeners, 60)
    assert got[1] == 0
    assert got[2] + got[3] == 60
    total = rig.counts(2) + rig.counts(3)
    assert (total.new, total.child) == (30, 30)
    assert total.fell_back >= 55
    assert not rig.counts(9)
    close(children + clients)


def test_the_scan_spreads_what_a_gone_slot_had(rig: Rig) -> None:
    """Of four slots dealt in turn one is gone: its part goes to all three others, not to one."""
    rig.listen(0, 1, 3)
    rig.table(fill(dict.fromkeys(range(4), 1)))
    clients = queue(400)
    got = taken(rig.listeners, 400)
    fell_back = {slot: rig.counts(slot).fell_back for slot in got}
    assert sum(got.values()) == 400
    assert 50 < sum(fell_back.values()) < 150
    assert min(fell_back.values()) >= 5, fell_back
    close(clients)


def test_beyond_the_scan_the_kernels_hash_decides(rig: Rig) -> None:
    """A table of nobody, or of slots that are all gone: nothing is refused, all of it counted."""
    rig.listen(0, 1)
    rig.table([NOBODY] * SIZE)
    clients = queue(20)
    rig.table(fill(dict.fromkeys(range(100, 140), 1)))
    clients += queue(20)
    assert sum(taken(rig.listeners, 40).values()) == 40
    assert rig.counts(UNSELECTED) == Counts(new=40, fell_back=40)
    assert not rig.counts(0)
    close(clients)


def test_a_child_with_nobody_to_choose_migrates_by_hash(rig: Rig) -> None:
    """Not cancelled: any living member is better than a reset."""
    rig.listen(0, 1)
    rig.table([0] * SIZE)
    clients = queue(10)
    wait_depth(rig.listeners[0], 10)
    rig.leave(0)
    assert taken(rig.listeners, 10) == {1: 10}
    assert rig.counts(UNSELECTED) == Counts(child=10, fell_back=10)
    close(clients)
