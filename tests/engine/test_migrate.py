"""The migrating engine on live groups: shares, flips, departures, crashes and re-execs."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.policy.clients import IPV4, close, connect, queue, taken, wait_depth
from tests.waiting import PATIENCE

from segue.engine import sockarray
from segue.engine.migrate import Migrate
from segue.engine.steering import Steering
from segue.errors import KernelError, UsageError
from segue.linux import sysctl
from segue.linux.sockopt import open_listener
from segue.policy.builtin import encode_number
from segue.policy.counts import Counts
from segue.shares import is_least_change

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

# More than any test queues: an overflow drops SYNs, and a SYN that is repeated counts twice.
BACKLOG = 4096


class Group:
    """Listeners of one address by slot, steered by one Migrate."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.engine = stack.enter_context(Migrate())
        self.listeners: dict[int, socket.socket] = {}

    def open(self, *slots: int) -> None:
        for slot in slots:
            self.listeners[slot] = self.stack.enter_context(open_listener(IPV4, backlog=BACKLOG))
            self.engine.join(slot, self.listeners[slot])

    def taken(self, total: int) -> dict[int, int]:
        return {slot: count for slot, count in taken(self.listeners, total).items() if count}

    def go(self, count: int) -> dict[int, int]:
        """So many connections, and which slots took them."""
        clients = queue(count)
        got = self.taken(count)
        close(clients)
        return got

    def leave(self, slot: int) -> None:
        self.engine.leave(slot, self.listeners.pop(slot))


@pytest.fixture
def group(netns: int) -> Iterator[Group]:
    """No listener yet; the kernel migrates nothing by itself."""
    sysctl.write("net.ipv4.tcp_migrate_req", "0")
    with ExitStack() as stack:
        yield Group(stack)


def test_it_is_a_steering(group: Group) -> None:
    """The supervisor may take it for one."""
    steering: Steering = group.engine
    assert (steering.name, steering.migrates) == ("migrate", True)


def test_before_the_first_share_the_kernel_decides(group: Group) -> None:
    """A group that just joined serves, by the kernel's own hash, and it is counted as such."""
    group.open(0, 1)
    assert sum(group.go(20).values()) == 20
    assert group.engine.counts() == {
        0: Counts(),
        1: Counts(),
        None: Counts(new=20, fell_back=20),
    }


def test_who_joins_has_no_share(group: Group) -> None:
    """Neither beside members that share nor in a slot that had a share before."""
    group.open(0)
    group.engine.share({0: 1})
    group.open(1)
    assert group.go(30) == {0: 30}
    group.engine.share({1: 1})
    assert group.go(5) == {1: 5}
    group.engine.share({0: 1, 1: 1})
    group.leave(1)
    group.open(1)
    assert group.go(30) == {0: 30}
    assert group.engine.counts()[1] == Counts()


def test_shares_are_followed(group: Group) -> None:
    """Three to one, within what chance allows; a weight of zero is none."""
    group.open(0, 1, 2)
    group.engine.share({0: 3, 1: 1, 2: 0})
    got = group.go(400)
    assert set(got) == {0, 1}
    assert 50 < got[1] < 150
    counts = group.engine.counts()
    assert {slot: counts[slot].new for slot in got} == got


def test_a_flip_is_prepared_aside(group: Group) -> None:
    """The copy in use is not touched: the one write that takes effect is the last."""
    group.open(0, 1)
    group.engine.share({0: 1})
    tables, active = group.engine._tables, group.engine._active()
    in_use = tables.lookup(encode_number(active))
    group.engine.share({1: 1})
    assert group.engine._active() == 1 - active
    assert tables.lookup(encode_number(active)) == in_use


def test_a_share_that_comes_back_has_the_same_clients(group: Group) -> None:
    """What was without a stalled worker is undone entry by entry when it is awake."""
    group.open(0, 1, 2)
    everybody = dict.fromkeys(range(3), 1.0)
    group.engine.share(everybody)
    before = group.engine._table()
    group.engine.share({1: 1.0, 2: 1.0})
    assert 0 not in group.engine._table()
    group.engine.share(everybody)
    assert group.engine._table() == before


def test_shares_that_come_back_by_another_way_move_no_more_clients(group: Group) -> None:
    """The table they had before would; a few steps on it is no longer the nearest."""
    group.open(0, 1, 2)
    steps = [{0: 1.0, 1: 1.0}, {0: 1.0, 2: 1.0}, {1: 1.0, 2: 1.0}, {0: 1.0, 1: 1.0}]
    for weights in steps:
        before = group.engine._table()
        group.engine.share(weights)
        assert is_least_change(before, group.engine._table())


def test_a_flip_under_load_loses_nothing_and_is_exact(group: Group) -> None:
    """What connects after the flip goes by it, while four threads connect all the time."""
    group.open(0, 1)
    group.engine.share({0: 1})
    failed: list[Exception] = []

    def hammer() -> None:
        # All that is made here and below fits one queue: nobody accepts meanwhile.
        for _ in range(900):
            try:
                connect().close()
            except OSError as error:
                failed.append(error)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    own = 0
    for flip in range(60):
        new, old = (flip + 1) % 2, flip % 2
        group.engine.share({new: 1})
        # Our own first connection sees to it that no program from before the flip still runs.
        connect().close()
        before = group.engine.counts()[old].new
        for _ in range(5):
            connect().close()
        own += 6
        assert group.engine.counts()[old].new == before
    for thread in threads:
        thread.join(PATIENCE)
    assert failed == []
    total = 4 * 900 + own
    accepted = sum(group.taken(total).values())
    counts = group.engine.counts()
    assert accepted == total
    assert counts[0].new + counts[1].new == total
    assert counts[None] == Counts()


@pytest.mark.parametrize("weights", [{1: 1}, {1: 1, 2: 1}], ids=["one", "both"])
def test_what_waits_at_a_leaving_listener_goes_by_the_shares(
    group: Group, weights: dict[int, float]
) -> None:
    """Fifty queued children, the sysctl off: all accepted by those that share, none by others."""
    group.open(0, 1, 2)
    group.engine.share({0: 1})
    clients = queue(50)
    for client in clients:
        client.sendall(b"?")
    wait_depth(group.listeners[0], 50)
    group.engine.share(weights)
    group.leave(0)
    got = group.taken(50)
    assert set(got) == set(weights)
    assert sum(got.values()) == 50
    counts = group.engine.counts()
    assert {slot: counts[slot] for slot in got} == {
        slot: Counts(child=number) for slot, number in got.items()
    }
    close(clients)


def test_a_share_is_inherited_by_those_that_stay(group: Group) -> None:
    """When a slot with a share leaves; and the last one's leaving leaves the kernel's hash."""
    group.open(0, 1, 2)
    group.engine.share({0: 1, 1: 1})
    group.leave(0)
    assert group.go(20) == {1: 20}
    assert group.engine.counts()[1].fell_back == 0
    group.leave(1)
    assert group.go(20) == {2: 20}
    assert group.engine.counts()[None] == Counts(new=20, fell_back=20)


def test_leaving_twice_only_closes(group: Group) -> None:
    """A slot that is not there has nothing to lose; the descriptor is closed all the same."""
    group.open(0)
    with open_listener(IPV4, backlog=1) as stranger:
        group.engine.leave(7, stranger)
        assert stranger.fileno() == -1
    assert group.go(5) == {0: 5}


def test_a_pin_until_it_is_taken_back(group: Group) -> None:
    """The pinned port goes to a slot without a share; unpinned, or the slot gone, by the shares."""
    group.open(0, 1)
    group.engine.share({0: 1})
    group.engine.pin(40001, 1)
    with connect(source_port=40001):
        assert group.taken(1) == {1: 1}
    group.engine.unpin(40001)
    group.engine.unpin(40001)
    group.engine.pin(40003, 1)
    with connect(source_port=40002):
        assert group.taken(1) == {0: 1}
    group.leave(1)
    with connect(source_port=40003):
        assert group.taken(1) == {0: 1}
    assert group.engine.counts()[0] == Counts(new=2)


def test_a_cycled_listener_gets_its_share_back(group: Group) -> None:
    """shutdown() and listen() take it out, what it held moves, and rejoin puts it back."""
    group.open(0, 1)
    group.engine.share({0: 1})
    clients = queue(10)
    wait_depth(group.listeners[0], 10)
    group.engine.share({0: 1, 1: 1})
    group.listeners[0].shutdown(socket.SHUT_RDWR)
    group.listeners[0].listen(BACKLOG)
    assert group.taken(10) == {1: 10}
    group.engine.rejoin(0, group.listeners[0])
    assert set(group.go(60)) == {0, 1}
    assert group.engine.counts()[1].child == 10
    close(clients)


def test_a_share_given_while_a_listener_is_down_waits_for_it(group: Group) -> None:
    """The others have it all meanwhile, by the table and not by falling back."""
    group.open(0, 1)
    down = group.listeners.pop(0)
    down.shutdown(socket.SHUT_RDWR)
    group.engine.share({0: 1, 1: 1})
    assert group.go(20) == {1: 20}
    assert group.engine.counts()[1].fell_back == 0
    down.listen(BACKLOG)
    group.engine.rejoin(0, down)
    group.listeners[0] = down
    assert set(group.go(60)) == {0, 1}


def test_the_only_member_loses_the_program_and_rejoin_gives_it_back(group: Group) -> None:
    """The kernel forgets a program with the last member of its group."""
    group.open(0)
    group.engine.share({0: 1})
    group.listeners[0].shutdown(socket.SHUT_RDWR)
    group.listeners[0].listen(BACKLOG)
    group.go(5)
    assert group.engine.counts()[0] == Counts()
    group.engine.rejoin(0, group.listeners[0])
    group.go(5)
    assert group.engine.counts()[0] == Counts(new=5)


def test_a_group_that_emptied_gets_the_program_with_its_next_member(group: Group) -> None:
    """Even when it emptied behind our back: a worker may shut its listener down."""
    group.open(0)
    group.listeners.pop(0).shutdown(socket.SHUT_RDWR)
    group.open(1)
    group.engine.share({1: 1})
    assert group.go(5) == {1: 5}
    assert group.engine.counts()[1] == Counts(new=5)


def test_closing_leaves_everything_in_force(group: Group) -> None:
    """Workers go on under the last shares, by a program that nobody holds any more."""
    group.open(0, 1)
    group.engine.share({1: 1})
    group.engine.close()
    group.engine.close()
    assert group.go(20) == {1: 20}


def test_the_listeners_of_a_crashed_supervisor_are_taken_over(group: Group) -> None:
    """Its array still has them; it is replaced and waited for, and connections go on meanwhile."""
    group.open(0, 1)
    group.engine.share({0: 1})
    group.engine.close()
    with Migrate() as successor:
        successor.join(5, group.listeners[0])
        successor.join(6, group.listeners[1])
        successor.share({6: 1})
        assert group.go(20) == {1: 20}
        assert successor.counts() == {5: Counts(), 6: Counts(new=20), None: Counts()}


def test_the_listener_of_a_living_supervisor_is_not_waited_for_long(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EBUSY, with what is the matter, and the slot is free again."""
    monkeypatch.setattr(sockarray, "FREED_WITHIN", 0.02)
    group.open(0)
    with Migrate() as rival:
        with pytest.raises(KernelError, match="that still runs has this listener") as refusal:
            rival.join(0, group.listeners[0])
        assert refusal.value.errno == errno.EBUSY
        with open_listener(IPV4, backlog=8) as other:
            rival.join(0, other)


def test_a_socket_that_does_not_listen_cannot_join(group: Group) -> None:
    """EINVAL; the slot stays free."""
    with socket.socket() as unbound, pytest.raises(KernelError) as refusal:
        group.engine.join(0, unbound)
    assert refusal.value.errno == errno.EINVAL
    group.open(0)


def test_restored_after_a_re_exec_it_goes_on_as_it_was(group: Group) -> None:
    """Slots, shares, pins and counts are what they were, and nothing is interrupted."""
    group.open(0, 1, 2)
    group.engine.share({0: 1, 1: 1})
    group.engine.pin(40001, 2)
    group.go(20)
    before = group.engine.counts()
    inherited = {name: os.dup(number) for name, number in group.engine.descriptors().items()}
    for number in inherited.values():
        os.set_inheritable(number, True)
    group.engine.close()
    with Migrate.restore(inherited) as engine:
        assert not any(os.get_inheritable(number) for number in inherited.values())
        assert engine.counts() == before
        assert set(group.go(60)) == {0, 1}
        with connect(source_port=40001):
            assert group.taken(1) == {2: 1}
        with pytest.raises(UsageError, match="slot 0 has a listener"):
            engine.join(0, group.listeners[0])
        engine.leave(0, group.listeners.pop(0))
        assert group.go(20) == {1: 20}
        engine.share({2: 1})
        assert group.go(20) == {2: 20}
        group.engine = engine
        group.open(0)
        assert group.go(20) == {2: 20}


def test_descriptors_of_something_else_are_refused_and_closed(group: Group) -> None:
    """One missing, two exchanged, one that is no map: said by name, and none of them leaks."""
    names = group.engine.descriptors()
    for wrong, why in (
        ({"sockets": names["sockets"]}, "no descriptor 'tables'"),
        (names | {"tables": names["control"]}, "'tables' is another map"),
        (names | {"sockets": names["program"]}, "for a map"),
    ):
        handed = {name: os.dup(number) for name, number in wrong.items()}
        with pytest.raises((UsageError, KernelError), match=why):
            Migrate.restore(handed)
        for number in handed.values():
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(number)


def test_what_makes_no_sense_changes_nothing(group: Group) -> None:
    """Shares for nobody, negative ones, none at all; a slot out of range or taken; odd pins."""
    group.open(0)
    group.engine.share({0: 1})
    engine = group.engine
    with pytest.raises(UsageError, match="slot 3 has no listener"):
        engine.share({0: 1, 3: 1})
    with pytest.raises(UsageError, match="negative"):
        engine.share({0: -1})
    with pytest.raises(UsageError, match="at least one"):
        engine.share({0: 0})
    with pytest.raises(UsageError, match="a slot must be between 0 and 1023"):
        engine.join(1024, group.listeners[0])
    with pytest.raises(UsageError, match="slot 0 has a listener already"):
        engine.join(0, group.listeners[0])
    with pytest.raises(UsageError, match="slot 4 never joined"):
        engine.rejoin(4, group.listeners[0])
    with pytest.raises(UsageError, match="cannot be pinned"):
        engine.pin(40001, 4)
    with pytest.raises(UsageError, match="a port must be"):
        engine.pin(0, 0)
    assert group.go(5) == {0: 5}
    assert engine.counts()[None] == Counts()


@pytest.mark.program("setpriv")
def test_cap_bpf_alone_is_enough(netns: int) -> None:
    """To make the maps, have the verifier read the program, attach and share."""
    script = (
        "from segue.engine.migrate import Migrate\n"
        "from segue.linux.sockopt import open_listener\n"
        "from tests.policy.clients import IPV4\n"
        "engine, listener = Migrate(), open_listener(IPV4, backlog=1)\n"
        "engine.join(0, listener)\n"
        "engine.share({0: 1})\n"
        "print(engine.counts()[0])\n"
    )
    root = Path(sockarray.__file__).parents[3]
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all,+bpf", "--inh-caps=-all", sys.executable, "-c", script],
        env={"PYTHONPATH": f"{root}/src:{root}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Counts(new=0")
