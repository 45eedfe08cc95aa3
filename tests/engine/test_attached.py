"""Who is in a group that others serve, and who gets what."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.policy.clients import IPV4, close, queue, taken

from segue.engine.attached import SETTLED, Attached
from segue.engine.duplicate import duplicate, find
from segue.engine.generations import Generations
from segue.engine.migrate import Migrate
from segue.errors import UsageError
from segue.linux import cbpf, sysctl
from segue.linux.bpf_attr import MapType
from segue.linux.bpf_maps import Map
from segue.linux.sockopt import cookie, open_listener
from segue.observe.origin import Origin, Rule
from segue.observe.snapshot import Observer
from segue.policy.builtin import encode_number, encode_socket

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]


class Release:
    """Stands for a rule: whoever listens now is of the release that is set now."""

    name, by_start = "test", False

    def __init__(self) -> None:
        self.now = "first"

    def origin(self, pids: tuple[int, ...]) -> Origin | None:
        return Origin(self.now, 0.0) if pids else None


class Group:
    """Listeners of this process, attached to as if they were somebody else's."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.now = 0.0
        self.listeners: dict[str, socket.socket] = {}
        self.release = Release()
        self.observer = stack.enter_context(Observer())
        self.attached = self._made(stack.enter_context(Migrate()))

    def _made(self, steering: Migrate) -> Attached:
        rule: Rule = self.release  # type: ignore[assignment]
        generations = Generations(by_start=False)
        return Attached(IPV4, self.observer, steering, rule, generations, proven=False)

    def open(self, *names: str) -> None:
        for name in names:
            self.listeners[name] = self.stack.enter_context(open_listener(IPV4, backlog=512))

    def begin(self, *names: str) -> None:
        self.open(*names)
        found = {one: duplicate(one) for one in find(self.observer, IPV4)}
        self.attached.begin({one: sock for one, sock in found.items() if sock}, self.now)
        for sock in found.values():
            assert sock
            sock.close()

    def come(self, *names: str) -> list[str]:
        self.open(*names)
        return self.look()

    def go(self, *names: str) -> list[str]:
        for name in names:
            self.listeners.pop(name).close()
        return self.look()

    def look(self, seconds: float = 0.1, *, thorough: bool = False) -> list[str]:
        self.now += seconds
        return self.attached.look(self.now, thorough=thorough)

    def slot(self, name: str) -> int:
        return self.attached.members[cookie(self.listeners[name])].slot

    def shares(self) -> dict[str, float]:
        total = sum(self.attached.weights.values())
        by_slot = {self.slot(name): name for name in self.listeners}
        return {
            by_slot[slot]: round(100 * weight / total, 2)
            for slot, weight in sorted(self.attached.weights.items())
        }

    def taken(self, count: int) -> set[str]:
        """Who got so many connections."""
        clients = queue(count)
        names = list(self.listeners)
        got = taken(dict(enumerate(self.listeners.values())), count)
        close(clients)
        assert sum(got.values()) == count
        return {names[number] for number, had in got.items() if had}


@pytest.fixture
def group(netns: int) -> Iterator[Group]:
    sysctl.write("net.ipv4.tcp_migrate_req", "0")
    with ExitStack() as stack:
        yield Group(stack)


def test_attaching_changes_nobodys_share(group: Group) -> None:
    """Who is there is there, whatever its age."""
    group.begin("a", "b", "c")
    assert group.shares() == pytest.approx({"a": 33.33, "b": 33.33, "c": 33.33})
    assert group.taken(60) == {"a", "b", "c"}


def test_a_new_release_takes_over_when_it_is_as_strong(group: Group) -> None:
    """Half with one listener of two, then all; the old one gets what is left, then nothing."""
    group.begin("a", "b")
    group.release.now = "second"
    group.come("c")
    assert group.shares() == {"a": 25, "b": 25, "c": 50}
    group.come("d")
    assert group.shares() == {"c": 50, "d": 50}
    assert group.taken(40) == {"c", "d"}
    group.go("a", "b")
    assert group.shares() == {"c": 50, "d": 50}


def test_a_newcomer_that_is_not_ready_has_no_share(group: Group) -> None:
    """It is in the table of sockets, and nothing is sent there until it is said to be ready."""
    group.attached.proven = False
    group.begin("a")
    group.attached.proven = True
    group.release.now = "second"
    group.come("b")
    assert group.shares() == {"a": 100}
    assert group.taken(30) == {"a"}
    group.attached.set_ready(cookie(group.listeners["b"]))
    assert group.shares() == {"b": 100}
    assert group.taken(30) == {"b"}


def test_a_listener_that_was_handed_on_is_of_the_generation_that_serves(group: Group) -> None:
    """Its parent, of the old release, opened it; it counts as new when it accepts."""
    group.attached.proven = False
    group.begin("a")
    group.attached.proven = True
    group.come("b", "c")
    group.release.now = "second"
    assert group.shares() == {"a": 100}
    group.attached.set_ready(cookie(group.listeners["b"]))
    assert group.shares() == {"b": 100}
    group.attached.set_ready(cookie(group.listeners["c"]))
    assert group.shares() == {"b": 50, "c": 50}
    assert group.taken(30) == {"b", "c"}


def test_so_is_one_that_a_predecessor_took_in(group: Group) -> None:
    """It came before segue attach was started again, and accepts afterwards."""
    group.attached.proven = False
    group.begin("a")
    group.attached.proven = True
    group.come("b")
    plain = json.loads(json.dumps(group.attached.to_json()))
    group.attached = group._made(group.attached.steering)
    group.attached.restore(plain, 0.0)
    group.release.now = "second"
    group.look()
    group.attached.set_ready(cookie(group.listeners["b"]))
    assert group.shares() == {"b": 100}


def test_one_that_is_ready_at_once_is_asked_for_its_generation_later(group: Group) -> None:
    """As a listener that waits for data is: when its parent has had the time to start a server."""
    group.begin("a")
    group.attached.canary = 10
    group.come("b")
    assert group.shares() == {"a": 50, "b": 50}
    group.release.now = "second"
    group.look(thorough=True)
    assert group.shares() == {"a": 50, "b": 50}
    group.look(2, thorough=True)
    assert group.shares() == {"a": 90, "b": 10}


def test_what_a_closing_listener_holds_goes_to_the_newest(group: Group) -> None:
    """By our program and not by hash: the other old one gets none of it."""
    group.begin("a", "b")
    waiting = queue(30)
    group.release.now = "second"
    group.come("c", "d")
    group.listeners.pop("a").close()
    counts = group.attached.steering.counts()
    moved = {name: counts[group.slot(name)].child for name in group.listeners}
    assert moved["b"] == 0
    assert moved["c"] + moved["d"] > 0
    close(waiting)


def test_no_descriptor_of_a_listener_is_kept(group: Group) -> None:
    """Its last close is its owner's, or what waits there would wait for ever."""
    group.begin("a", "b")
    group.come("c")
    inodes = sorted(f"socket:[{one.inode}]" for one in group.observer.snapshot(IPV4).listeners)
    numbers = os.listdir("/proc/self/fd")
    links = [
        os.readlink(f"/proc/self/fd/{n}") for n in numbers if os.path.exists(f"/proc/self/fd/{n}")
    ]
    assert sorted(one for one in links if one in inodes) == inodes


def test_a_canary_is_shifted_and_rolled_back(group: Group) -> None:
    """By percent; one that was taken back stays out beside the next."""
    group.begin("a")
    with pytest.raises(UsageError, match="one generation only"):
        group.attached.shift(5)
    group.attached.canary = 5
    group.release.now = "second"
    group.come("b")
    assert group.shares() == {"a": 95, "b": 5}
    assert group.attached.shift(25) == 2
    assert group.shares() == {"a": 75, "b": 25}
    group.attached.shift(0)
    assert group.shares() == {"a": 100}
    group.attached.canary = None
    group.release.now = "third"
    group.come("c")
    assert group.shares() == {"c": 100}
    group.attached.shift(40)
    assert group.shares() == {"a": 60, "c": 40}
    group.go("a", "c")
    assert group.shares() == {"b": 100}
    with pytest.raises(UsageError, match="between 0 and 100"):
        group.attached.shift(101)


def test_a_canary_that_was_not_promoted_gives_way_to_the_next(group: Group) -> None:
    """The rest is not its, however new it is."""
    group.begin("a")
    group.attached.canary = 5
    for release, name in (("second", "b"), ("third", "c")):
        group.release.now = release
        group.come(name)
    assert group.shares() == {"a": 95, "c": 5}


def test_a_canary_of_nothing_waits_beside_one_that_was_not_promoted(group: Group) -> None:
    """Neither has a full share; the older one still serves, and 0 % is no full share either."""
    group.begin("a")
    group.release.now, group.attached.canary = "second", 10
    group.come("b")
    group.go("a")
    assert group.shares() == {"b": 100}
    group.release.now, group.attached.canary = "third", 0
    group.come("c")
    assert group.shares() == {"b": 100}


def test_a_canary_survives_that_its_worker_is_started_anew(group: Group) -> None:
    """The release is the same, so is its part."""
    group.begin("a")
    group.attached.canary = 5
    group.release.now = "second"
    group.come("b")
    group.attached.shift(10)
    group.go("b")
    assert group.shares() == {"a": 100}
    group.come("b2")
    assert group.shares() == {"a": 90, "b2": 10}


def test_weights_are_a_workers_own(group: Group) -> None:
    """Half, and away with it; its slot's next listener has none."""
    group.begin("a", "b")
    group.attached.weigh({group.slot("b"): 0.25})
    assert group.shares() == {"a": 80, "b": 20}
    with pytest.raises(UsageError, match="there is no worker9"):
        group.attached.weigh({9: 1})
    group.go("b")
    group.come("c")
    assert group.shares() == {"a": 50, "c": 50}


def test_strength_is_what_served_when_things_were_settled(group: Group) -> None:
    """After a minute without change; a generation of that strength is enough from then on."""
    group.begin("a", "b", "c", "d")
    group.go("c", "d")
    group.look(SETTLED + 1, thorough=True)
    group.release.now = "second"
    group.come("e", "f")
    assert group.shares() == {"e": 50, "f": 50}


def test_a_release_that_was_gone_for_long_is_a_new_generation(group: Group) -> None:
    """Within a minute its worker is only being started anew; later it is another deployment."""
    group.begin("a")
    for seconds, number in ((SETTLED - 1, 2), (SETTLED + 1, 3)):
        group.release.now = "second"
        group.come("b")
        group.go("b")
        group.look(seconds, thorough=True)
        group.come("b")
        assert group.attached.members[cookie(group.listeners["b"])].generation == number
        group.go("b")


def test_a_listener_of_another_group_is_left_alone(group: Group) -> None:
    """At the same address, bound to an interface: nothing could move to it or from it."""
    group.begin("a")
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        bound.bind((IPV4.host, IPV4.port))
        bound.listen()
        assert ["another reuseport group" in text for text in group.look()] == [True]
        assert group.shares() == {"a": 100}


def test_a_newcomer_in_another_programs_table_is_left_alone(group: Group) -> None:
    """Said once; the others are followed."""
    group.begin("a")
    group.open("b")
    theirs = Map.create(MapType.REUSEPORT_SOCKARRAY, value_size=8, entries=1)
    with group.stack.enter_context(theirs):
        theirs.update(encode_number(0), encode_socket(group.listeners["b"].fileno()))
        assert ["another program" in text for text in group.look()] == [True]
        assert group.look(thorough=True) == []
        group.come("c")
        assert len(group.attached.members) == 2
        theirs.delete(encode_number(0))
    group.look(11, thorough=True)
    assert len(group.attached.members) == 3


def test_a_program_that_came_with_a_newcomer_is_replaced(group: Group) -> None:
    """Of a server that steers by itself each new listener would take the group from us."""
    group.begin("a")
    group.open("b")
    cbpf.attach_reuseport(group.listeners["b"], [cbpf.answer(0)])
    group.look()
    before = group.attached.steering.counts()
    assert group.taken(40) == {"a", "b"}
    after = group.attached.steering.counts()
    assert sum((after[slot] - before[slot]).new for slot in after) == 40


def test_one_that_was_shut_down_is_put_back(group: Group) -> None:
    """It listens again under the same cookie, and only the table knows that it was away."""
    group.begin("a", "b")
    group.listeners["b"].shutdown(socket.SHUT_RDWR)
    group.listeners["b"].listen(512)
    assert len(group.attached.steering.cookies()) == 1
    group.look(thorough=True)
    assert len(group.attached.steering.cookies()) == 2
    assert group.taken(40) == {"a", "b"}


def test_counts_of_those_that_left_are_kept(group: Group) -> None:
    """The group's sum never falls."""
    group.begin("a", "b")
    group.taken(40)
    before = group.attached.steering.counts()[group.slot("b")]
    group.go("b")
    assert group.attached.gone == before


def test_what_is_written_down_goes_on(group: Group) -> None:
    """Members, their generations, what they were shifted to and weighed, and who left meanwhile."""
    group.begin("a")
    group.release.now = "second"
    group.come("b", "c")
    group.attached.shift(50)
    group.attached.weigh({group.slot("c"): 3})
    shares = group.shares()
    plain = json.loads(json.dumps(group.attached.to_json()))
    group.attached.restore(plain, 0.0)
    assert group.shares() == shares == {"a": 50, "b": 12.5, "c": 37.5}
    had = group.attached.steering.counts()[group.slot("c")]
    group.listeners.pop("c").close()
    again = group._made(group.attached.steering)
    again.restore(plain, 0.0)
    assert len(again.members) == 2
    assert again.gone == had


def test_who_stalls_is_passed_over_while_anybody_else_has_a_share(group: Group) -> None:
    """Its part goes to its own generation first; nobody is left out when all stall."""
    group.begin("a", "b")
    group.release.now = "second"
    group.come("c", "d")
    group.attached.shift(20)
    assert group.shares() == {"a": 40, "b": 40, "c": 10, "d": 10}
    of = {name: cookie(one) for name, one in group.listeners.items()}
    group.attached.pass_over([of["c"]])
    assert group.shares() == {"a": 40, "b": 40, "d": 20}
    assert "c" not in group.taken(60)
    group.attached.pass_over([of["c"], of["d"]])
    assert group.shares() == {"a": 50, "b": 50}
    group.attached.pass_over(of.values())
    assert group.shares() == {"a": 40, "b": 40, "c": 10, "d": 10}
    group.attached.pass_over([of["a"], of["b"]])
    assert group.shares() == {"c": 50, "d": 50}
    group.attached.pass_over(())
    assert group.shares() == {"a": 40, "b": 40, "c": 10, "d": 10}


def test_a_stall_changes_nothing_in_how_many_are_wanted(group: Group) -> None:
    """Who is passed over when things are settled has its seat."""
    group.begin("a", "b")
    group.attached.pass_over([cookie(group.listeners["a"])])
    group.look(SETTLED + 1, thorough=True)
    assert group.attached.strength == 2
