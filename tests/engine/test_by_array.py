"""Steering by an object that knows only its array, on live groups."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bpf.objects import GOLDEN, SOCKARRAY, policy
from tests.policy.clients import (
    IPV4,
    close,
    connect,
    deaf,
    hear,
    queue,
    taken,
)

from segue.engine import object as objects
from segue.engine.by_array import ByArray, places
from segue.engine.migrate import Migrate
from segue.engine.steering import (
    Exchangeable,
    Steering,
    counts_of,
    descriptors_of,
    moves_at_close,
    order_of,
)
from segue.errors import KernelError, UsageError
from segue.linux import sysctl
from segue.linux.bpf_maps import Map
from segue.linux.sockopt import cookie, open_listener
from segue.policy.builtin import encode_number

SLOTS = st.sets(st.integers(0, 20), max_size=8)


@given(SLOTS, SLOTS)
def test_places_have_no_gap_and_few_move(before: set[int], wanted: set[int]) -> None:
    """Each has one of 0 to n - 1; who was within that stays."""
    earlier = places({}, before)
    now = places(earlier, wanted)
    assert sorted(now.values()) == list(range(len(wanted)))
    assert now.keys() == wanted
    for slot in before & wanted:
        if earlier[slot] < len(wanted):
            assert now[slot] == earlier[slot]


class Group:
    """Listeners of one address by slot, steered by one object."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.listeners: dict[int, socket.socket] = {}

    def load(self, path: Path) -> ByArray:
        made = objects.steering(str(path))
        assert isinstance(made, ByArray)
        self.engine = self.stack.enter_context(made)
        return made

    def open(self, *slots: int) -> None:
        for slot in slots:
            self.listeners[slot] = self.stack.enter_context(open_listener(IPV4, backlog=512))
            self.engine.join(slot, self.listeners[slot])

    def go(self, count: int) -> dict[int, int]:
        """So many connections, and which slots took them."""
        clients = queue(count)
        got = {slot: n for slot, n in taken(self.listeners, count).items() if n}
        close(clients)
        return got

    def array(self) -> list[int]:
        """The slots in the object's array, by place."""
        by_cookie = {cookie(one): slot for slot, one in self.listeners.items()}
        found = [self.engine._sockets.lookup(encode_number(place)) for place in range(8)]
        return [by_cookie[int.from_bytes(one, "little")] for one in found if one is not None]


@pytest.fixture
def group(netns: int) -> Iterator[Group]:
    """Steered by the golden object ``live``; the kernel migrates nothing by itself."""
    sysctl.write("net.ipv4.tcp_migrate_req", "0")
    with ExitStack() as stack:
        made = Group(stack)
        made.load(GOLDEN / "live.bpf.o")
        yield made


pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]


def test_it_is_a_steering(group: Group) -> None:
    """The supervisor may take it for one, and knows what it cannot."""
    steering: Steering = group.engine
    assert (steering.migrates, moves_at_close(steering), steering.weighs) == (True, True, False)
    assert (counts_of(steering), descriptors_of(steering), order_of(steering)) == ({}, {}, [])
    assert not isinstance(steering, Exchangeable)


def test_the_array_holds_those_that_share_and_the_program_is_told_how_many(group: Group) -> None:
    """From 0 on without a gap, whatever their slots; nobody else gets anything."""
    group.open(0, 1, 2, 5)
    assert group.array() == []
    group.engine.share({2: 1, 5: 1})
    assert group.array() == [2, 5]
    assert set(group.go(60)) == {2, 5}
    assert group.engine.variables() == {"segue_live": 2, "selected": 60, "migrated": 0}
    group.engine.share({5: 1, 0: 1, 1: 1})
    assert sorted(group.array()) == [0, 1, 5]
    assert group.array()[1] == 5  # who stays keeps its place
    assert set(group.go(90)) == {0, 1, 5}
    group.engine.share({1: 1})
    assert group.array() == [1]
    assert group.go(20) == {1: 20}
    assert group.engine.variables()["segue_live"] == 1


def test_no_more_are_told_than_are_there(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even for as long as one write: whoever believes the number selects somebody."""
    told: list[int] = []

    def watched(change: Callable[..., None]) -> Callable[..., None]:
        def changed(*args: object) -> None:
            change(*args)
            live = group.engine.variables()["segue_live"]
            assert live <= len(group.array())
            told.append(live)

        return changed

    for name in ("_put", "_take_out"):
        monkeypatch.setattr(group.engine, name, watched(getattr(group.engine, name)))
    group.open(0, 1, 2, 3)
    for slots in ((0, 1, 2), (3,), (0, 1, 2, 3), (1, 2)):
        group.engine.share(dict.fromkeys(slots, 1.0))
    assert {0, 1, 2} <= set(told)


def test_what_waits_goes_where_the_object_says(group: Group) -> None:
    """Queued, and half-open, when their listener leaves after the flip; counted in variables."""
    group.open(0, 1, 2)
    group.engine.share({0: 1})
    clients = queue(20)
    half_open = [deaf() for _ in range(3)]
    group.engine.share({2: 1})
    group.engine.leave(0, group.listeners.pop(0))
    for one in half_open:
        hear(one)
    assert taken(group.listeners, 23) == {1: 0, 2: 23}
    # A half-open one that moves on its timer is asked about again at its last ACK.
    assert 23 <= group.engine.variables()["migrated"] <= 26
    close(clients + half_open)


def test_a_pin_reaches_whoever_waits_and_whoever_shares(group: Group) -> None:
    """Readiness is asked of newcomers that the object cannot see, and of a lone worker again."""
    group.open(0, 1)
    group.engine.share({0: 1})
    for slot, port in ((1, 5001), (0, 5002)):
        group.engine.pin(port, slot)
        with connect(source_port=port):
            assert taken(group.listeners, 1)[slot] == 1
        group.engine.unpin(port)
    assert group.engine.variables()["selected"] == 0  # the object was not even asked
    with connect(source_port=5001):
        assert taken(group.listeners, 1) == {0: 1, 1: 0}


def test_a_pin_goes_with_its_listener(group: Group) -> None:
    """And is refused for a slot without one."""
    group.open(0, 1)
    group.engine.share({0: 1})
    group.engine.pin(5001, 1)
    group.engine.leave(1, group.listeners.pop(1))
    assert list(group.engine._loaded.pins.keys()) == []
    with pytest.raises(UsageError, match="slot 1 has no listener"):
        group.engine.pin(5001, 1)
    with pytest.raises(UsageError, match="a port must be between 1 and 65535"):
        group.engine.pin(0, 0)


def test_senseless_shares_are_refused_and_change_nothing(group: Group) -> None:
    """Those that make no sense anywhere; where they differ, they are the same."""
    group.open(0, 1)
    group.engine.share({0: 1})
    for weights, said in (
        ({0: 0.0}, "at least one"),
        ({7: 1.0}, "slot 7 has no listener"),
    ):
        with pytest.raises(UsageError, match=said):
            group.engine.share(weights)
    assert group.array() == [0]
    group.engine.share({0: 3.0, 1: 1.0})
    assert group.array() == [0, 1]


def test_an_array_is_never_too_small(netns: int, tmp_path: Path) -> None:
    """The object asked for one entry, and there is room for all that have a share."""
    small = tmp_path / "small.bpf.o"
    small.write_bytes(policy(sockets=(20, 4, 4, 1, 0)))
    with ExitStack() as stack:
        group = Group(stack)
        group.load(small)
        group.open(0, 1, 2)
        group.engine.share({0: 1, 1: 1, 2: 1})
        assert group.array() == [0, 1, 2]


def test_a_share_goes_to_the_others_when_its_listener_leaves(group: Group) -> None:
    """The gap is filled; after the last one nothing is left."""
    group.open(0, 1, 2)
    group.engine.share({0: 1, 1: 1, 2: 1})
    group.engine.leave(0, group.listeners.pop(0))
    assert sorted(group.array()) == [1, 2]
    assert group.engine.variables()["segue_live"] == 2
    for slot in (1, 2):
        group.engine.leave(slot, group.listeners.pop(slot))
    assert group.engine.variables()["segue_live"] == 0
    unknown = socket.socket()
    group.engine.leave(9, unknown)
    assert unknown.fileno() == -1


def test_a_listener_that_was_cycled_comes_back(group: Group) -> None:
    """To its place when it shares, to the others that wait when it does not."""
    group.open(0, 1, 2)
    group.engine.share({0: 1, 1: 1})
    for slot in (1, 2):
        listener = group.listeners[slot]
        listener.shutdown(socket.SHUT_RDWR)
        listener.listen(512)
        group.engine.rejoin(slot, listener)
    assert group.array() == [0, 1]
    assert set(group.go(40)) == {0, 1}
    group.engine.pin(5001, 2)
    with connect(source_port=5001):
        assert taken(group.listeners, 1)[2] == 1
    with pytest.raises(UsageError, match="slot 8 never joined"):
        group.engine.rejoin(8, group.listeners[0])


def test_a_listener_that_is_shut_down_has_no_place_until_it_rejoins(group: Group) -> None:
    """The others share what it had."""
    group.open(0, 1)
    group.listeners[0].shutdown(socket.SHUT_RDWR)
    group.engine.share({0: 1, 1: 1})
    assert group.array() == [1]
    group.listeners[0].listen(512)
    group.engine.rejoin(0, group.listeners[0])
    assert sorted(group.array()) == [0, 1]


def test_joining_twice_or_beyond_is_refused(group: Group) -> None:
    """As by the engine with the built-in program."""
    group.open(0)
    with pytest.raises(UsageError, match="slot 0 has a listener already"):
        group.engine.join(0, group.listeners[0])
    with pytest.raises(UsageError, match="a slot must be between 0 and 1023"):
        group.engine.join(1024, group.listeners[0])
    with socket.socket() as bare, pytest.raises(KernelError) as refusal:
        group.engine.join(1, bare)
    assert refusal.value.errno == errno.EINVAL


def test_it_takes_the_place_of_another_program(group: Group) -> None:
    """What a dead supervisor's program holds is replaced, and its array waited for."""
    first = open_listener(IPV4, backlog=512)
    before = Migrate()
    before.join(0, first)
    before.share({0: 1})
    before.close()
    with first:
        group.listeners[0] = first
        group.engine.join(0, first)
        group.engine.share({0: 1})
        assert group.go(10) == {0: 10}
        assert group.engine.variables()["selected"] == 10


def by_name(engine: ByArray, name: str) -> Map:
    """One of the object's own maps."""
    loaded = engine._loaded
    return next(
        one for one, spec in zip(loaded.maps, loaded.policy.maps, strict=True) if spec.name == name
    )


@pytest.mark.parametrize("known", [True, False])
def test_an_object_with_maps_of_its_own_decides_by_them(netns: int, known: bool) -> None:
    """What waits goes to the listener that is written down as heir, and is counted by a function
    of the object; with none written down the object cancels.
    """
    with ExitStack() as stack:
        group = Group(stack)
        engine = group.load(GOLDEN / "by_cookie.bpf.o")
        group.open(0)
        engine.share({0: 1})
        clients = queue(30)
        group.open(1, 2)
        engine.share({0: 1, 1: 1, 2: 1})
        if known:
            leaving = cookie(group.listeners[0]).to_bytes(8, "little")
            heir = encode_number(group.array().index(2))
            by_name(engine, "heirs").update(leaving, heir)
        group.listeners.pop(0).close()  # as a worker does, without a word to the engine
        counted = engine.variables()
        if known:
            assert taken(group.listeners, 30) == {1: 0, 2: 30}
            assert (counted["children"], counted["unknown"]) == (30, 7)
        else:
            assert (counted["children"], counted["unknown"]) == (0, 7 + 30)
            assert _kept(clients) == []
            assert taken(group.listeners, 0) == {1: 0, 2: 0}
        close(clients)


def _kept(clients: list[socket.socket]) -> list[socket.socket]:
    """Those that were not reset."""
    return [one for one in clients if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0]


def test_the_least_object_serves_by_the_kernels_hash(netns: int, tmp_path: Path) -> None:
    """One that selects nobody: nothing is refused."""
    least = tmp_path / "least.bpf.o"
    least.write_bytes(policy(sockets=SOCKARRAY))
    with ExitStack() as stack:
        group = Group(stack)
        group.load(least)
        group.open(0, 1)
        group.engine.share({0: 1})
        assert sum(group.go(20).values()) == 20
        assert group.engine.variables() == {}
