"""Row four and what it stands on: Fast Open children, their slots, and the minute's penalty."""

from __future__ import annotations

import pytest
from tests.model.peers import Bench, Peer

from segue.model.profile import LINUX, SERIES, Difference, Profile
from segue.model.states import State
from segue.wire import options
from segue.wire.options import Options
from segue.wire.tcp import ACK, SYN

WITHOUT_COOKIE = 0x1 | 0x2 | 0x200


def bench_for(profile: Profile = LINUX, fast_open: int = WITHOUT_COOKIE) -> Bench:
    bench = Bench(profile)
    bench.host.sysctls.tcp_migrate_req = 1
    bench.host.sysctls.tcp_fastopen = fast_open
    return bench


def pending(bench: Bench, number: int) -> list[Peer]:
    """Clients that were taken by Fast Open, and have not acknowledged that yet."""
    peers = [Peer(bench) for _ in range(number)]
    for one in peers:
        before = one.seq
        one.syn(b"hello")
        assert one.seq == before + 6
    return peers


def room(bench: Bench) -> int:
    """How many more Fast Open children are taken; they stay."""
    before = bench.host.counts["TCPFastOpenPassive"]
    for _ in range(20):
        Peer(bench).syn(b"x")
    return bench.host.counts["TCPFastOpenPassive"] - before


def test_a_child_is_accepted_before_its_final_ack() -> None:
    """Moved without a packet, with the SYN's data, in SYN_RECV until the ACK (FACTS, fast-open)."""
    bench = bench_for()
    old = bench.listener(TCP_FASTOPEN=10)
    peers = pending(bench, 5)
    new = bench.listener(TCP_FASTOPEN=10)
    bench.close(old)
    accepted = bench.accept_all(new)
    assert [bench.host.read(bench.now, one) for one in accepted] == [b"hello"] * 5
    assert {one.state for one in accepted} == {State.SYN_RECV}
    for one in peers:
        assert one.said() == []
        one.final_ack()
    assert {one.state for one in accepted} == {State.ESTABLISHED}
    assert bench.moved() == (5, 0)


def test_a_migrated_child_repeats_its_syn_ack() -> None:
    """From the listener that it has come to (FACTS, fast-open)."""
    bench = bench_for()
    old = bench.listener(TCP_FASTOPEN=10)
    (peer,) = pending(bench, 1)
    new = bench.listener(TCP_FASTOPEN=10)
    bench.close(old)
    bench.wait(1.6)
    assert peer.said() == ["SYN ACK"]
    peer.final_ack()
    assert [one.state for one in bench.accept_all(new)] == [State.ESTABLISHED]


def test_without_the_switch_a_child_is_reset_at_once() -> None:
    """And its ACK, which comes later, too (FACTS, fast-open)."""
    bench = bench_for()
    bench.host.sysctls.tcp_migrate_req = 0
    old = bench.listener(TCP_FASTOPEN=10)
    (peer,) = pending(bench, 1)
    bench.listener(TCP_FASTOPEN=10)
    bench.close(old)
    assert peer.said() == ["RST ACK"]
    peer.final_ack()
    assert peer.said() == ["RST"]


MENDED = Profile("mended", LINUX.differences - {Difference.FAST_OPEN_SLOT_STAYS})


@pytest.mark.parametrize(
    ("profile", "waiting", "finished", "accepted"),
    [(SERIES, 1, 1, 4), (LINUX, 4, 7, 7), (MENDED, 1, 4, 4)],
    ids=lambda one: one.name if isinstance(one, Profile) else None,
)
def test_the_slots_of_migrated_children(
    profile: Profile, waiting: int, finished: int, accepted: int
) -> None:
    """Linux does not count them in and counts them out (FACTS, slots).

    The series counts them in, and out where their request refers to: at the old listener, if their
    handshake is over before they are accepted.
    """
    for step, expected in (("wait", waiting), ("finish", finished), ("accept", accepted)):
        bench = bench_for(profile)
        old = bench.listener(TCP_FASTOPEN=4)
        peers = pending(bench, 3)
        new = bench.listener(64, TCP_FASTOPEN=4)
        bench.close(old)
        if step == "accept":
            assert len(bench.accept_all(new)) == 3
        if step != "wait":
            for one in peers:
                one.final_ack()
        assert room(bench) == expected


@pytest.mark.parametrize(("accepted", "left"), [(False, 4), (True, 1)])
def test_a_reset_is_held_against_its_sender_once_accepted(accepted: bool, left: int) -> None:
    """For sixty seconds (FACTS, slots)."""
    bench = bench_for()
    listener = bench.listener(64, TCP_FASTOPEN=4)
    peers = pending(bench, 3)
    if accepted:
        bench.accept_all(listener)
    for one in peers:
        one.rst()
    assert listener.fast_open.limit - listener.fast_open.used == left
    bench.wait(62.0)
    assert room(bench) == 4


@pytest.mark.parametrize(("profile", "left"), [(SERIES, 1), (LINUX, 4)], ids=["series", "linux"])
def test_a_restart_keeps_the_defence(profile: Profile, left: int) -> None:
    """The penalties go to the new listener; in Linux they end with the old one (FACTS, slots)."""
    bench = bench_for(profile)
    old = bench.listener(64, TCP_FASTOPEN=4)
    peers = pending(bench, 3)
    bench.accept_all(old)
    for one in peers:
        one.rst()
    new = bench.listener(64, TCP_FASTOPEN=4)
    bench.close(old)
    assert new.fast_open.limit - new.fast_open.used == left
    bench.wait(62.0)
    assert room(bench) == 4


def test_a_cookie_is_given_and_then_asked_for() -> None:
    """RFC 7413: the first SYN gets one, the second is taken by it; a wrong one gets the right."""
    bench = bench_for(fast_open=0x2)
    listener = bench.listener(TCP_FASTOPEN=4)
    asking = Peer(bench, offer=Options(mss=1460, fast_open=b""))
    given = options.parse(asking.syn().options).fast_open
    assert given is not None
    assert len(given) == 8
    wrong = Peer(bench, offer=Options(mss=1460, fast_open=bytes(8)))
    assert options.parse(wrong.syn(b"data").options).fast_open == given
    assert bench.accept_all(listener) == []
    right = Peer(bench, offer=Options(mss=1460, fast_open=given))
    assert right.syn(b"data").flags == SYN | ACK
    (child,) = bench.accept_all(listener)
    assert bench.host.read(bench.now, child) == b"data"
