"""The mechanism, row by row, against what Linux 6.18 was seen to do."""

from __future__ import annotations

import pytest
from tests.model.peers import OFFER, Bench, Peer

from segue.errors import KernelError
from segue.model.events import Acceptable, Choice, Moved, Occasion, Stopped
from segue.model.profile import LINUX, SERIES, Profile
from segue.model.program import Program, Question, SkAction
from segue.model.states import State

both = pytest.mark.parametrize("profile", [SERIES, LINUX], ids=lambda one: one.name)
either_family = pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
either_end = pytest.mark.parametrize("end", ["close", "shutdown"])


@both
@either_family
@either_end
def test_children_go_to_a_sibling_in_their_order(profile: Profile, v6: bool, end: str) -> None:
    """With the switch on, clients see nothing, and early data is read (FACTS, children)."""
    bench = Bench(profile)
    bench.host.sysctls.tcp_migrate_req = 1
    old = bench.listener(v6=v6)
    peers = [Peer(bench, v6=v6).connect() for _ in range(5)]
    peers[3].data(b"early")
    peers[3].got()
    new = bench.listener(v6=v6)
    getattr(bench, end)(old)
    accepted = bench.accept_all(new)
    assert [one.path.remote[1] for one in accepted] == [one.port for one in peers]
    assert bench.host.read(bench.now, accepted[3]) == b"early"
    assert [one.said() for one in peers] == [[]] * 5
    assert bench.moved() == ((5, 0) if profile is LINUX else (0, 0))


@either_end
def test_without_the_switch_children_are_reset(end: str) -> None:
    """RST with ACK, at once, and no counter of migration moves (FACTS, children)."""
    bench = Bench()
    old = bench.listener()
    peers = [Peer(bench).connect() for _ in range(3)]
    new = bench.listener()
    getattr(bench, end)(old)
    assert [one.said() for one in peers] == [["RST ACK"]] * 3
    assert bench.accept_all(new) == []
    assert bench.moved() == (0, 0)


def test_alone_children_are_reset_and_counted() -> None:
    """Nobody is there to take them (FACTS, children)."""
    bench = Bench()
    bench.host.sysctls.tcp_migrate_req = 1
    old = bench.listener()
    peers = [Peer(bench).connect() for _ in range(3)]
    bench.close(old)
    assert [one.said() for one in peers] == [["RST ACK"]] * 3
    assert bench.moved() == (0, 3)


def test_children_whose_peer_has_ended_or_reset_go_along() -> None:
    """The target reads the end, the data before it, or the reset (FACTS, gone)."""
    bench = Bench()
    bench.host.sysctls.tcp_migrate_req = 1
    old = bench.listener()
    ended, spoke, broke = (Peer(bench).connect() for _ in range(3))
    ended.fin()
    spoke.data(b"xyz")
    spoke.fin()
    broke.rst()
    new = bench.listener()
    bench.close(old)
    first, second, third = bench.accept_all(new)
    read = bench.host.read
    assert read(bench.now, first) == b""
    assert (read(bench.now, second), read(bench.now, second)) == (b"xyz", b"")
    with pytest.raises(KernelError, match="ECONNRESET"):
        read(bench.now, third)
    assert bench.moved() == (3, 0)


def test_shutting_the_sending_side_of_a_listener_does_nothing() -> None:
    """It listens on, and what it has queued stays (FACTS, sending-side)."""
    bench = Bench()
    old = bench.listener()
    Peer(bench).connect()
    bench.host.shutdown(bench.now, old, receive=False)
    assert len(bench.accept_all(old)) == 1


@pytest.mark.parametrize(
    ("then", "later", "accepted", "counted"),
    [(1, 1, 4, (4, 0)), (0, 0, 0, (0, 0)), (1, 0, 0, (0, 4)), (0, 1, 0, (0, 0))],
    ids=["on on", "off off", "on off", "off on"],
)
def test_the_switch_counts_at_close_and_at_the_ack(
    then: int, later: int, accepted: int, counted: tuple[int, int]
) -> None:
    """Half-open requests need it at both (FACTS, requests)."""
    bench = Bench()
    old = bench.listener()
    peers = [Peer(bench) for _ in range(4)]
    for one in peers:
        one.syn()
    new = bench.listener()
    bench.host.sysctls.tcp_migrate_req = then
    bench.close(old)
    bench.host.sysctls.tcp_migrate_req = later
    for one in peers:
        one.final_ack()
    assert len(bench.accept_all(new)) == accepted
    assert [one.said() for one in peers] == [[] if accepted else ["RST"]] * 4
    assert bench.moved() == counted
    assert bench.host.half_open() == 0


@pytest.mark.parametrize("switch", [0, 1])
def test_the_timer_moves_a_request_or_drops_it(switch: int) -> None:
    """Moved, its SYN-ACK is repeated; else not, and the ACK is reset (FACTS, requests)."""
    bench = Bench()
    bench.host.sysctls.tcp_migrate_req = switch
    old = bench.listener()
    peer = Peer(bench)
    peer.syn()
    new = bench.listener()
    bench.close(old)
    bench.wait(1.6)
    assert peer.said() == (["SYN ACK"] if switch else [])
    assert bench.moved() == (switch, 0)
    peer.final_ack()
    assert peer.said() == ([] if switch else ["RST"])
    assert len(bench.accept_all(new)) == switch
    assert bench.moved() == (switch, 0)


def test_a_listener_that_comes_too_late_gets_nothing() -> None:
    """It must listen before the old one stops (FACTS, requests)."""
    bench = Bench()
    bench.host.sysctls.tcp_migrate_req = 1
    old = bench.listener()
    peer = Peer(bench)
    peer.syn()
    bench.close(old)
    new = bench.listener()
    peer.final_ack()
    assert peer.said() == ["RST"]
    assert bench.accept_all(new) == []
    assert bench.moved() == (0, 1)


@pytest.mark.parametrize("switch", [0, 1])
def test_a_listener_that_listens_again_has_its_requests_back(switch: int) -> None:
    """They never left it, and nothing counts (FACTS, relisten)."""
    bench = Bench()
    bench.host.sysctls.tcp_migrate_req = switch
    old = bench.listener()
    peer = Peer(bench)
    peer.syn()
    bench.shutdown(old)
    bench.host.listen(old, 8)
    peer.final_ack()
    assert len(bench.accept_all(old)) == 1
    assert bench.moved() == (0, 0)


def test_the_closed_section_keeps_a_listener_while_a_request_refers_to_it() -> None:
    """And not one instant longer; one that listens again leaves it."""
    bench = Bench()
    bench.host.sysctls.tcp_migrate_req = 1
    old, other = bench.listener(), None
    peer = Peer(bench)
    peer.syn()
    other = bench.listener()
    group = other.group
    assert group is not None
    bench.shutdown(old)
    assert (group.live, group.closed) == ([other], [old])
    bench.host.listen(old, 8)
    assert (group.live, group.closed) == ([other, old], [])
    bench.close(old)
    assert group.closed == [old]
    peer.final_ack()
    assert group.closed == []
    assert old.group is None


def test_a_leaver_gives_its_place_to_the_last() -> None:
    """The one that listened last has the index of the first (FACTS, index)."""
    bench = Bench()
    first, second, third = (bench.listener() for _ in range(3))
    group = first.group
    assert group is not None
    bench.close(first)
    assert group.live == [third, second]


def test_the_program_decides_and_sees_who_closes() -> None:
    """The states, the lengths and both cookies; no sysctl is needed in Linux (FACTS, question)."""
    bench = Bench()
    asked: list[Question] = []

    def decide(question: Question) -> int | SkAction:
        asked.append(question)
        return chosen.cookie if question.migrating else SkAction.PASS

    old = bench.listener()
    bench.host.attach(old, Program(decide))
    queued, half = Peer(bench).connect(), Peer(bench)
    half.syn()
    late = Peer(bench)
    late.syn()
    bench.listener()
    chosen = bench.listener()
    bench.close(old)
    half.final_ack()
    bench.wait(1.0)
    migrating = [one for one in asked if one.migrating is not None]
    assert [(one.migrating, one.length) for one in migrating] == [
        (State.ESTABLISHED, 0),
        (State.NEW_SYN_RECV, 32),
        (State.NEW_SYN_RECV, 0),
    ]
    assert {one.cookie for one in migrating} == {old.cookie}
    paths = [one.path for one in migrating]
    assert [one and one.remote[1] for one in paths] == [queued.port, half.port, late.port]
    accepted = bench.accept_all(chosen)
    assert [one.cookie for one in accepted] == [one.migrating_cookie for one in migrating[:2]]
    assert bench.moved() == (3, 0)


def test_a_cancelled_migration_resets() -> None:
    """SK_DROP is not overridden by the sysctl, and each is counted (FACTS, program)."""
    bench = Bench()
    bench.host.sysctls.tcp_migrate_req = 1
    old = bench.listener()
    queued, half, late = Peer(bench).connect(), Peer(bench), Peer(bench)
    half.syn()
    late.syn()
    bench.listener()
    asked: list[State | None] = []

    def decide(question: Question) -> SkAction:
        asked.append(question.migrating)
        return SkAction.DROP if question.migrating else SkAction.PASS

    bench.host.attach(old, Program(decide))
    bench.close(old)
    assert queued.said() == ["RST ACK"]
    half.final_ack()
    assert half.said() == ["RST"]
    # Once for the request, and once more for the ACK that is then nobody's.
    assert asked[-2:] == [State.NEW_SYN_RECV, None]
    bench.wait(1.5)
    assert late.said() == []
    late.final_ack()
    assert late.said() == ["RST"]
    assert bench.moved() == (0, 3)


def test_a_selection_that_fails_falls_back_to_the_hash() -> None:
    """A listener that is gone or of another group (FACTS, program)."""
    bench = Bench()
    old = bench.listener()
    Peer(bench).connect()
    new = bench.listener()
    bench.host.attach(new, Program(lambda _: 999_999))
    bench.close(old)
    assert len(bench.accept_all(new)) == 1


@pytest.mark.parametrize(("switch", "moves"), [(0, 0), (1, 1)])
def test_a_program_that_only_selects_has_no_say(switch: int, moves: int) -> None:
    """Without the sysctl nothing moves, with it the hash decides, unasked (FACTS, program)."""
    bench = Bench()
    bench.host.sysctls.tcp_migrate_req = switch
    old = bench.listener()
    Peer(bench).connect()
    new = bench.listener()

    def decide(_: Question) -> SkAction:
        raise AssertionError

    bench.host.attach(old, Program(decide, migrates=False))
    bench.close(old)
    assert len(bench.accept_all(new)) == moves
    assert bench.moved() == (moves, 0)


def test_children_ignore_the_backlog_and_requests_do_not() -> None:
    """The rest of the requests stay, and come in as there is room (FACTS, backlog)."""
    bench = Bench()
    bench.host.sysctls.tcp_migrate_req = 1
    old = bench.listener(100)
    for _ in range(20):
        Peer(bench).connect()
    new = bench.listener(1)
    bench.close(old)
    assert len(new.queue) == 20
    assert len(bench.accept_all(new)) == 20
    source = bench.listener(100)
    bench.close(new)
    half = [Peer(bench) for _ in range(5)]
    for one in half:
        one.syn()
    target = bench.listener(1)
    bench.close(source)
    for one in half:
        one.final_ack()
    assert [one.said() for one in half] == [[]] * 5
    assert (len(target.queue), bench.host.half_open()) == (2, 3)
    assert bench.moved() == (22, 3)
    bench.accept_all(target)
    half[2].final_ack()
    assert len(bench.accept_all(target)) == 1


def test_overflow_may_be_set_to_reset() -> None:
    """With tcp_abort_on_overflow each request that finds no room is reset (FACTS, backlog)."""
    bench = Bench()
    bench.host.sysctls.tcp_migrate_req = 1
    bench.host.sysctls.tcp_abort_on_overflow = 1
    old = bench.listener()
    half = [Peer(bench) for _ in range(4)]
    for one in half:
        one.syn()
    bench.listener(0)
    bench.close(old)
    for one in half:
        one.final_ack()
    assert [one.said() for one in half] == [[], ["RST"], ["RST"], ["RST"]]


def test_a_child_keeps_its_options_and_a_request_takes_the_targets() -> None:
    """All but what the SYN has fixed (FACTS, options)."""
    bench = Bench()
    bench.host.sysctls.tcp_migrate_req = 1
    old = bench.listener(TCP_NODELAY=1, TCP_SAVE_SYN=1, TCP_MAXSEG=1000)
    Peer(bench).connect()
    half = Peer(bench)
    half.syn()
    new = bench.listener()
    bench.close(old)
    half.final_ack()
    queued, later = bench.accept_all(new)
    assert queued.options["TCP_NODELAY"] == 1
    assert "TCP_NODELAY" not in later.options
    assert later.saved_syn is not None
    assert later.terms.mss == 1000


@pytest.mark.parametrize(("defer", "accepted"), [(0, 1), (5, 0)])
def test_a_deferred_request_is_still_a_request(defer: int, accepted: int) -> None:
    """The target's TCP_DEFER_ACCEPT decides what a bare ACK does (FACTS, options)."""
    bench = Bench()
    bench.host.sysctls.tcp_migrate_req = 1
    old = bench.listener(TCP_DEFER_ACCEPT=5)
    peer = Peer(bench)
    peer.connect()
    assert bench.accept_all(old) == []
    new = bench.listener(TCP_DEFER_ACCEPT=defer)
    bench.close(old)
    peer.final_ack()
    assert len(bench.accept_all(new)) == accepted
    if not accepted:
        peer.data(b"hello")
        (child,) = bench.accept_all(new)
        assert bench.host.read(bench.now, child) == b"hello"


def test_syn_cookies_save_requests_and_not_children() -> None:
    """Nothing is kept, so nothing migrates; another member takes the final ACK (FACTS, cookies)."""
    bench = Bench()
    bench.host.sysctls.tcp_syncookies = 2
    old = bench.listener()
    queued, half = Peer(bench).connect(), Peer(bench)
    half.syn()
    assert bench.host.half_open() == 0
    new = bench.listener()
    bench.close(old)
    half.final_ack()
    assert queued.said() == ["RST ACK"]
    (child,) = bench.accept_all(new)
    assert (child.terms.sack, child.terms.stamps, child.terms.scale_out) == (True, True, 7)
    assert bench.moved() == (0, 0)


def test_syn_cookies_without_timestamps_lose_the_options() -> None:
    """Only the MSS survives (FACTS, cookies)."""
    bench = Bench()
    bench.host.sysctls.tcp_syncookies = 2
    listener = bench.listener()
    offer = type(OFFER)(mss=1400, window_scale=7, sack_permitted=True)
    peer = Peer(bench, offer=offer)
    assert bytes(peer.syn().options) == b"\x02\x04\x05\xb4"
    peer.final_ack()
    (child,) = bench.accept_all(listener)
    assert (child.terms.mss, child.terms.sack, child.terms.scale_in) == (1300, False, None)


def test_a_cookie_is_worth_nothing_to_a_new_group() -> None:
    """It has not seen the overflow, so the ACK is reset (FACTS, cookies)."""
    bench = Bench()
    bench.host.sysctls.tcp_syncookies = 2
    listener = bench.listener()
    peer = Peer(bench)
    peer.syn()
    bench.shutdown(listener)
    bench.host.listen(listener, 8)
    peer.final_ack()
    assert peer.said() == ["RST"]


def test_the_target_is_told_of_what_migrates() -> None:
    """It may wait in epoll, and wakes (FACTS, wake)."""
    bench = Bench()
    bench.host.sysctls.tcp_migrate_req = 1
    old = bench.listener()
    Peer(bench).connect()
    new = bench.listener()
    bench.host.events()
    bench.close(old)
    (child,) = new.queue
    assert bench.host.events() == [
        Stopped(old.cookie, kept=True),
        Moved(child.cookie, State.ESTABLISHED, old.cookie, new.cookie, Occasion.STOP, Choice.HASH),
        Acceptable(new.cookie),
    ]


def test_a_child_may_move_once_for_each_close() -> None:
    """Nothing is lost while one live member remains (FACTS, twice)."""
    bench = Bench()
    bench.host.sysctls.tcp_migrate_req = 1
    chain = [bench.listener(64)]
    peers = [Peer(bench).connect() for _ in range(30)]
    for _ in range(3):
        chain.append(bench.listener(64))
        bench.close(chain[-2])
    assert len(bench.accept_all(chain[-1])) == 30
    assert [one.said() for one in peers] == [[]] * 30
    assert bench.moved() == (90, 0)
