"""The picture of a group's order, against every order the kernel can have."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.waiting import PATIENCE

from segue.address import Address
from segue.engine.index_order import IndexOrder
from segue.errors import UsageError
from segue.linux import cbpf
from segue.linux.sockopt import cookie, open_listener

Order = tuple[int, ...]


def without(order: Order, leaver: int) -> Order:
    """The kernel's rule (__reuseport_detach_sock): the last member takes the hole."""
    members = list(order)
    hole = members.index(leaver)
    mover = members.pop()
    if hole < len(members):
        members[hole] = mover
    return tuple(members)


def every_outcome(orders: Iterable[Order], leave: set[int], join: set[int]) -> set[Order]:
    """All orders after these departures and arrivals, one after the other in any sequence."""
    found: set[Order] = set()
    for order in orders:
        for sequence in itertools.permutations(leave | join):
            now = order
            for member in sequence:
                now = without(now, member) if member in leave else (*now, member)
            found.add(now)
    return found


def check(picture: IndexOrder, possible: set[Order]) -> None:
    """Every index that is named is right whatever happened, and the length is right."""
    for order in possible:
        assert len(picture.order) == len(order)
        for index, named in enumerate(picture.order):
            assert named in {None, order[index]}, (picture.order, order)
    members = next(iter(possible))
    assert all(picture.member(one) for one in members)
    assert {abs(one) for one in picture.record()} == set(members)


@given(st.data())
def test_a_place_that_is_named_is_right_in_every_order_of_departures(data: st.DataObject) -> None:
    """Joins, single and simultaneous departures, and comparisons, in any sequence."""
    picture, fresh = IndexOrder(), itertools.count(1)
    orders: set[Order] = {()}
    for _ in range(data.draw(st.integers(1, 8))):
        members = sorted(next(iter(orders)))
        what = data.draw(st.sampled_from(["join", "leave", "several", "look", "restart"]))
        if what == "join" and len(members) < 7:
            new = next(fresh)
            picture.joined(new)
            orders = {(*order, new) for order in orders}
        elif what in {"leave", "several"} and members:
            most = 1 if what == "leave" else 3
            gone = data.draw(st.sets(st.sampled_from(members), min_size=1, max_size=most))
            picture.left(*gone)
            orders = every_outcome(orders, gone, set())
        elif what == "look":
            gone = {one for one in members if data.draw(st.booleans())}
            gone = set(sorted(gone)[:3])
            came = {next(fresh) for _ in range(data.draw(st.integers(0, 2)))}
            assert picture.reconcile(set(members)) == ((), 0)
            orders = every_outcome(orders, gone, came)
            told = picture.reconcile((set(members) | came) - gone)
            assert told == (tuple(sorted(gone)), len(came))
        elif what == "restart":
            picture = IndexOrder(picture.record())
        check(picture, orders)


@given(
    st.permutations(["join 6", "leave 2", "lost", "stranger"]),
    st.permutations([1, 2, 3, 4, 5]),
    st.integers(1, 4),
)
def test_what_happens_unseen_beside_our_own_changes(
    changes: list[str], start: list[int], count: int
) -> None:
    """We see our own join and departure; when a loss and a stranger came is not known."""
    changes = changes[:count]
    ours = [one for one in changes if one[-1].isdigit()]
    picture = IndexOrder(start)
    for change in ours:
        number = int(change[-1])
        (picture.joined if change.startswith("join") else picture.left)(number)
    unseen = [one for one in changes if not one[-1].isdigit()]
    possible: set[Order] = set()
    for sequence in itertools.permutations(changes):
        if [one for one in sequence if one in ours] != ours:
            continue
        now: Order = tuple(start)
        for change in sequence:
            if change == "join 6":
                now = (*now, 6)
            elif change == "stranger":
                now = (*now, 7)
            else:
                now = without(now, 2 if change == "leave 2" else 4)
        possible.add(now)
    left, joined = picture.reconcile(next(iter(possible)))
    assert (left, joined) == ((4,) if "lost" in unseen else (), int("stranger" in unseen))
    check(picture, possible)


def test_a_member_whose_place_is_unknown_can_leave() -> None:
    """Two may have taken each other's hole; when one of them leaves the other is known again."""
    picture = IndexOrder([1, 2, 3, 4, 5])
    picture.left(1, 2)
    assert list(picture.order) == [None, None, 3]
    assert picture.index(4) is None
    picture.left(4)
    assert list(picture.order) == [None, None]
    picture.left(3)
    assert list(picture.order) == [5]


def test_what_is_certain_is_named() -> None:
    """Being careful is no excuse for knowing nothing: these indexes have one possible holder."""
    picture = IndexOrder([1, 2, 3, 4, 5])
    picture.left(2)
    assert list(picture.order) == [1, 5, 3, 4]
    picture.left(5, 4)
    assert list(picture.order) == [1, 3]
    assert picture.reconcile([1, 3]) == ((), 0)
    assert picture.reconcile([1, 3, 9]) == ((), 1)
    assert list(picture.order) == [1, 3, 9]
    assert picture.reconcile([1, 3, 9, 10, 11]) == ((), 2)
    assert list(picture.order) == [1, 3, 9, None, None]
    assert picture.record() == [1, 3, 9, -10, -11]
    assert picture.last is None


def seen_by_kernel(address: Address, listeners: dict[int, socket.socket]) -> list[int]:
    """The kernel's order: what `ret #i` answers is asked of every index in turn."""
    found = []
    for index in range(len(listeners)):
        some = next(iter(listeners.values()))
        cbpf.attach_reuseport(some, [cbpf.answer(index)])
        with socket.create_connection((address.host, address.port), timeout=PATIENCE) as client:
            for name, listener in listeners.items():
                listener.setblocking(False)
                try:
                    child, peer = listener.accept()
                except BlockingIOError:
                    continue
                child.close()
                assert peer == client.getsockname()
                found.append(name)
    return found


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_the_picture_is_the_kernels() -> None:
    """After every listen, close and cycle each index answers with the member we name."""
    address = Address("127.0.0.1", 8000)
    picture, listeners = IndexOrder(), {}
    script = ["+", "+", "+", "+", "-0", "+", "~1", "-2", "+", "~3", "-1", "-3"]
    made = 0
    try:
        for act in script:
            if act == "+":
                new = open_listener(address, backlog=8)
                listeners[made] = new
                made += 1
                picture.joined(cookie(new))
            elif act[0] == "-":
                gone = listeners.pop(int(act[1:]))
                picture.left(cookie(gone))
                gone.close()
            else:
                cycled = listeners[int(act[1:])]
                cycled.shutdown(socket.SHUT_RDWR)
                cycled.listen(8)
                picture.left(cookie(cycled))
                picture.joined(cookie(cycled))
            truth = seen_by_kernel(address, listeners)
            assert list(picture.order) == [cookie(listeners[one]) for one in truth], act
    finally:
        for one in listeners.values():
            one.close()


@given(st.permutations(range(1, 7)), st.data())
def test_a_list_by_age_tells_newcomers_apart(joiners: list[int], data: st.DataObject) -> None:
    """Ours and strangers, however they took turns: all are appended, and all have an index."""
    picture = IndexOrder([10, 11, 12])
    ours = data.draw(st.sets(st.sampled_from(joiners)))
    picture.joined(*(one for one in joiners if one in ours))
    seen = [10, 11, 12, *joiners]
    assert picture.reconcile(seen, oldest_first=True) == ((), 6 - len(ours))
    assert list(picture.order) == seen


def test_a_list_by_age_tells_nothing_when_somebody_moved() -> None:
    """A newcomer may have come before or after a departure: its index is not certain."""
    picture = IndexOrder([10, 11, 12])
    picture.left(10)
    picture.reconcile([11, 12, 13, 14], oldest_first=True)
    assert list(picture.order) == [None, 11, None, None]


def test_who_is_found_has_a_place_again() -> None:
    """And the last one by that; nobody is found where somebody else is, or who is not adrift."""
    picture = IndexOrder([1, 2, 3, 4, 5, 6])
    picture.left(1, 2, 3)
    assert picture.adrift == {4, 5, 6}
    assert picture.doubtful == (0, 1, 2)
    picture.found(6, 1)
    assert list(picture.order) == [None, 6, None]
    for who, index in ((6, 0), (4, 1), (9, 0)):
        with pytest.raises(UsageError, match=f"listener {who} cannot have index {index}"):
            picture.found(who, index)
    picture.found(4, 2)
    assert list(picture.order) == [5, 6, 4]
    assert picture.adrift == set()


def test_nobody_joins_twice() -> None:
    """Whether its index is certain or not."""
    picture = IndexOrder([1, -2, -3])
    for who in (1, 3):
        with pytest.raises(UsageError, match=f"listener {who} is in the group already"):
            picture.joined(who)
