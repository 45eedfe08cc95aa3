"""What the eight patches do and today's Linux does not: each difference, in both profiles.

Those of Fast Open (patch 4/8) are in test_fast_open.py, patch 8/8 is in tests/lab/test_replay.py.
"""

from __future__ import annotations

import pytest
from tests.model.peers import Bench, Peer

from segue.errors import KernelError
from segue.model.events import Acceptable, Choice, Misstep, Moved, Occasion, Stopped
from segue.model.listener import Listener
from segue.model.profile import LINUX, SERIES, Difference, PostedError, Profile
from segue.model.program import Decide, Program, Question, SkAction
from segue.model.states import State

both = pytest.mark.parametrize("profile", [SERIES, LINUX], ids=lambda one: one.name)
either_family = pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])


def switched_on(profile: Profile) -> Bench:
    bench = Bench(profile)
    bench.host.sysctls.tcp_migrate_req = 1
    return bench


def steered(bench: Bench, decide: Decide | None = None) -> tuple[Listener, list[Listener]]:
    """A listener whose program sends all that is new to it; who is in the list comes first.

    ``decide`` is asked about what migrates, else that is left to the kernel.
    """
    target = [bench.listener(64)]

    def program(question: Question) -> int | SkAction:
        if question.path is not None and question.migrating is None:
            return target[0].cookie
        return SkAction.PASS if decide is None else decide(question)

    bench.host.attach(target[0], Program(program))
    return target[0], target


def ports(bench: Bench, listener: Listener) -> list[int]:
    return [one.path.remote[1] for one in bench.accept_all(listener)]


def missteps(bench: Bench) -> list[PostedError]:
    return [one.error for one in bench.host.events() if isinstance(one, Misstep)]


@both
@pytest.mark.parametrize(("made", "closed"), [(0, 1), (1, 0)], ids=["off on", "on off"])
def test_the_switch_is_remembered_by_the_group(profile: Profile, made: int, closed: int) -> None:
    """2/8: as it was when the group began; Linux reads it at the close."""
    bench = Bench(profile)
    bench.host.sysctls.tcp_migrate_req = made
    old = bench.listener()
    queued, half = Peer(bench).connect(), Peer(bench)
    half.syn()
    new = bench.listener()
    bench.host.sysctls.tcp_migrate_req = closed
    bench.close(old)
    half.final_ack()
    moves = made if profile is SERIES else closed
    assert ports(bench, new) == ([queued.port, half.port] if moves else [])
    assert half.said() == ([] if moves else ["RST"])


@both
def test_a_program_is_no_switch_in_the_series(profile: Profile) -> None:
    """2/8: without the sysctl a program makes nothing migrate."""
    bench = Bench(profile)
    old = bench.listener()
    Peer(bench).connect()
    new = bench.listener()
    bench.host.attach(old, Program(lambda _: new.cookie))
    bench.close(old)
    assert len(bench.accept_all(new)) == (profile is LINUX)


@both
def test_who_listens_again_alone_has_its_own_group(profile: Profile) -> None:
    """2/8: with its program; in Linux it begins another (reuseport_resurrect)."""
    bench = switched_on(profile)
    old = bench.listener()
    before = old.group
    bench.host.attach(old, Program(lambda _: SkAction.DROP))
    bench.shutdown(old)
    bench.host.listen(old, 8)
    assert (old.group is before) == (profile is SERIES)
    Peer(bench).raw(0x02, b"", Peer(bench).offer, ack=0)
    assert bench.host.half_open() == (profile is LINUX)
    assert missteps(bench) == ([PostedError.ALONE_AGAIN_STAYS_CLOSED] * (profile is SERIES))


@both
def test_who_listens_again_may_join_another_group(profile: Profile) -> None:
    """2/8: in Linux; in the series only the one that it comes from."""
    bench = switched_on(profile)
    old = bench.listener()
    bench.shutdown(old)
    other = bench.listener()
    assert other.group is not old.group
    if profile is SERIES:
        with pytest.raises(KernelError, match="EADDRINUSE"):
            bench.host.listen(old, 8)
    else:
        bench.host.listen(old, 8)
        assert other.group is old.group


@both
def test_who_listens_again_leaves_the_closed_section(profile: Profile) -> None:
    """2/8: and is the last of the live ones."""
    bench = switched_on(profile)
    old, other = bench.listener(), bench.listener()
    group = other.group
    assert group is not None
    bench.shutdown(old)
    assert (group.live, group.closed) == ([other], [old])
    bench.host.listen(old, 8)
    assert (group.live, group.closed) == ([other, old], [])


@both
def test_a_closed_listener_stays_while_a_request_refers_to_it(profile: Profile) -> None:
    """2/8, 3/8: those that were linked over do, until they are accepted; Linux's clones do not."""
    bench = switched_on(profile)
    old = bench.listener()
    for _ in range(2):
        Peer(bench).connect()
    new = bench.listener()
    group = new.group
    assert group is not None
    bench.close(old)
    for left in (2, 1, 0):
        assert len(new.queue) == left
        assert group.closed == ([old] if profile is SERIES and left else [])
        if left:
            bench.host.accept(new)
    assert (old.group, old.references) == (None, 0)


@both
@either_family
@pytest.mark.parametrize("end", ["close", "shutdown"])
def test_the_whole_queue_goes_to_the_head_of_the_neighbours(
    profile: Profile, v6: bool, end: str
) -> None:
    """3/8: in its order, before what waits there; Linux puts each child at the tail."""
    bench = switched_on(profile)
    old = bench.listener(64, v6=v6)
    first = [Peer(bench, v6=v6).connect().port for _ in range(3)]
    target = {"is": old}
    bench.host.attach(
        old, Program(lambda asked: SkAction.PASS if asked.migrating else target["is"].cookie)
    )
    new = bench.listener(0, v6=v6)
    target["is"] = new
    then = [Peer(bench, v6=v6).connect().port]
    bench.host.attach(old, None)
    getattr(bench, end)(old)
    assert ports(bench, new) == (first + then if profile is SERIES else then + first)


def test_the_example_of_the_patch() -> None:
    """3/8: of a, b, c, d at A, B, C, D, with A and B closed, D has a and d, C has b and c."""
    bench = switched_on(SERIES)
    a, target = steered(bench)
    b, c, d = (bench.listener(64) for _ in range(3))
    had = {}
    for name, one in zip("abcd", (a, b, c, d), strict=True):
        target[0] = one
        had[Peer(bench).connect().port] = name
    bench.close(a)
    assert a.group is not None
    assert a.group.live == [d, b, c]
    bench.close(b)
    assert a.group.live == [d, c]
    assert [had[port] for port in ports(bench, d)] == ["a", "d"]
    assert [had[port] for port in ports(bench, c)] == ["b", "c"]


def test_the_neighbour_of_the_last_is_before_it() -> None:
    """3/8: nobody takes its place."""
    bench = switched_on(SERIES)
    _, target = steered(bench)
    middle, last = bench.listener(64), bench.listener(64)
    target[0] = last
    peer = Peer(bench).connect()
    bench.close(last)
    assert ports(bench, middle) == [peer.port]


@both
def test_nobody_is_told_of_a_queue_that_was_linked_over(profile: Profile) -> None:
    """3/8: who waits at the target is not woken; in Linux 6.18 it is."""
    bench = switched_on(profile)
    old = bench.listener()
    Peer(bench).connect()
    new = bench.listener()
    bench.host.events()
    bench.close(old)
    (child,) = new.queue
    choice = Choice.HASH if profile is LINUX else Choice.NEIGHBOUR
    moved = Moved(child.cookie, State.ESTABLISHED, old.cookie, new.cookie, Occasion.STOP, choice)
    woken = [Acceptable(new.cookie)] if profile is LINUX else []
    assert bench.host.events() == [Stopped(old.cookie, kept=True), moved, *woken]


def test_linux_without_its_mend_wakes_nobody_either() -> None:
    """A kernel with CVE-2026-46015 is a profile, too."""
    bench = switched_on(Profile("deaf", LINUX.differences - {Difference.TARGET_IS_WOKEN}))
    old = bench.listener()
    Peer(bench).connect()
    new = bench.listener()
    bench.host.events()
    bench.close(old)
    assert [type(one) for one in bench.host.events()] == [Stopped, Moved]
    assert len(new.queue) == 1


def test_a_series_that_wakes() -> None:
    """The queue as a whole: one word for all of it, and none for an empty one."""
    bench = switched_on(Profile("woken", SERIES.differences | {Difference.TARGET_IS_WOKEN}))
    old = bench.listener()
    for _ in range(3):
        Peer(bench).connect()
    new = bench.listener()
    bench.host.events()
    bench.close(old)
    third = bench.listener()
    assert [one for one in bench.host.events() if isinstance(one, Acceptable)] == [
        Acceptable(new.cookie)
    ]
    bench.accept_all(new)
    bench.close(new)
    assert bench.host.events() == [Stopped(new.cookie, kept=True)]
    assert len(third.queue) == 0


@both
def test_half_open_requests_go_by_the_listeners_hash(profile: Profile) -> None:
    """5/8: which is 0, so that all go to the first of the group; in Linux by their own."""
    bench = switched_on(profile)
    old, _ = steered(bench)
    peers = [Peer(bench) for _ in range(24)]
    for one in peers:
        one.syn()
    rest = [bench.listener(64) for _ in range(4)]
    bench.close(old)
    for one in peers:
        one.final_ack()
    shares = [len(bench.accept_all(one)) for one in rest]
    assert sum(shares) == 24
    group = rest[0].group
    assert group is not None
    assert rest.index(group.live[0]) == 3  # who took the place of the one that left
    assert (shares == [0, 0, 0, 24]) == (profile is SERIES)
    if profile is LINUX:
        assert all(shares)


@both
@pytest.mark.parametrize("occasion", ["ACK", "timer"])
def test_a_request_that_is_refused(profile: Profile, occasion: str) -> None:
    """5/8: it is the target's before it is judged; in Linux the old one's, until it has a child."""
    bench = switched_on(profile)
    old = bench.listener(8)
    peers = [Peer(bench) for _ in range(3)]
    for one in peers:
        one.syn()
    new = bench.listener(0)
    bench.close(old)
    if occasion == "timer":
        bench.wait(1.5)
        assert (old.requests, new.requests, new.young) == (0, 3, 0)
        return
    for one in peers:
        one.final_ack()
    assert len(new.queue) == 1
    assert (old.requests, new.requests) == ((0, 2) if profile is SERIES else (2, 0))
    assert (old.young, new.young) == ((0, 2) if profile is SERIES else (2, 0))


@both
def test_a_request_that_is_reset_where_it_migrates(profile: Profile) -> None:
    """5/8: it is counted over, and out; Linux only counts it out, and the target looks full."""
    bench = switched_on(profile)
    bench.host.sysctls.tcp_syncookies = 0
    old = bench.listener()
    peer = Peer(bench)
    peer.syn()
    new = bench.listener()
    bench.close(old)
    peer.rst()
    assert (old.requests, new.requests) == ((0, 0) if profile is SERIES else (1, -1))
    assert new.requests_full == (profile is LINUX)


def test_none_live_the_packet_is_looked_up_anew() -> None:
    """5/8: the request is dropped, and the ACK is nobody's."""
    bench = switched_on(SERIES)
    old = bench.listener()
    acked, timed = Peer(bench), Peer(bench)
    acked.syn()
    timed.syn()
    bench.close(old)
    acked.final_ack()
    assert acked.said() == ["RST"]
    bench.wait(1.5)
    assert timed.said() == []
    assert bench.host.half_open() == 0


@both
def test_every_program_is_asked(profile: Profile) -> None:
    """7/8: however it was attached; in Linux one for selection alone is not."""
    bench = switched_on(profile)
    old = bench.listener()
    Peer(bench).connect()
    new = bench.listener()
    asked: list[Question] = []

    def decide(question: Question) -> SkAction:
        asked.append(question)
        return SkAction.DROP

    bench.host.attach(old, Program(decide, migrates=False))
    bench.close(old)
    assert len(asked) == (profile is SERIES)
    assert len(bench.accept_all(new)) == (profile is LINUX)


@both
def test_what_a_program_is_told(profile: Profile) -> None:
    """6/8, 7/8: who closes, and no packet: once for a queue, once for each half-open request."""
    bench = switched_on(profile)
    asked: list[Question] = []

    def decide(question: Question) -> int:
        asked.append(question)
        return new.cookie

    old, _ = steered(bench, decide)
    queued = [Peer(bench).connect() for _ in range(3)]
    acked, timed = Peer(bench), Peer(bench)
    acked.syn()
    timed.syn()
    new = bench.listener(64)
    bench.close(old)
    acked.final_ack()
    bench.wait(1.5)
    assert len(new.queue) == len(queued) + 1
    if profile is SERIES:
        assert asked == [Question(0, None, old.cookie)] * 3
        return
    states = [State.ESTABLISHED] * 3 + [State.NEW_SYN_RECV] * 2
    assert [one.migrating for one in asked] == states
    assert {one.cookie for one in asked} == {old.cookie}
    assert all(one.path is not None for one in asked)
    assert len({one.migrating_cookie for one in asked}) == len(asked)


def test_a_program_is_asked_for_an_empty_queue() -> None:
    """7/8: the detaching does not look whether anything waits."""
    bench = switched_on(SERIES)
    asked: list[Question] = []

    def decide(question: Question) -> SkAction:
        asked.append(question)
        return SkAction.PASS

    old = bench.listener()
    bench.listener()
    bench.host.attach(old, Program(decide))
    bench.close(old)
    assert asked == [Question(0, None, old.cookie)]


def test_a_program_that_passes_leaves_the_queue_to_the_neighbour() -> None:
    """7/8: and a half-open request to the hash."""
    bench = switched_on(SERIES)
    old, _ = steered(bench)
    queued, half = Peer(bench).connect(), Peer(bench)
    half.syn()
    bench.listener(64)
    last = bench.listener(64)
    bench.close(old)
    half.final_ack()
    assert ports(bench, last) == [queued.port, half.port]


@pytest.mark.parametrize("occasion", ["ACK", "timer"])
def test_a_program_cancels(occasion: str) -> None:
    """7/8: the queue is reset with its listener, the request dropped, which is what was meant."""
    bench = switched_on(SERIES)
    old, target = steered(bench, lambda _: SkAction.DROP)
    queued, half = Peer(bench).connect(), Peer(bench)
    half.syn()
    new = bench.listener(64)
    target[0] = new
    bench.close(old)
    assert queued.said() == ["RST ACK"]
    assert missteps(bench) == []  # of a queue the posted code notices it
    if occasion == "ACK":
        half.final_ack()
        assert half.said() == ["RST"]
    else:
        bench.wait(1.5)
        assert half.said() == []
    assert missteps(bench) == [PostedError.CANCELLED_REQUEST_IS_A_LISTENER]
    assert (bench.host.half_open(), len(new.queue)) == (0, 0)


@both
def test_the_series_counts_nothing(profile: Profile) -> None:
    """Neither what moves nor what does not."""
    bench = switched_on(profile)
    old = bench.listener()
    Peer(bench).connect()
    acked, timed, full = (Peer(bench) for _ in range(3))
    for one in (acked, timed, full):
        one.syn()
    new = bench.listener(1)
    bench.close(old)
    for one in (acked, full):
        one.final_ack()
    bench.wait(1.5)
    bench.close(new)
    assert bench.moved() == ((4, 3) if profile is LINUX else (0, 0))


def test_the_penalties_come_before_those_of_the_taker() -> None:
    """4/8: prepended, each with its own minute; to an empty list the posted code adds no tail."""
    bench = switched_on(SERIES)
    bench.host.sysctls.tcp_fastopen = 0x1 | 0x2 | 0x200
    old, target = steered(bench)
    bench.host.setsockopt(old, "TCP_FASTOPEN", 4)
    new = bench.listener(64, TCP_FASTOPEN=8)

    def penalty(at: Listener) -> None:
        target[0] = at
        peer = Peer(bench)
        peer.syn(b"x")
        bench.accept_all(at)
        peer.rst()

    penalty(old)
    bench.wait(10.0)
    penalty(new)
    earlier, later = old.fast_open.penalties[0], new.fast_open.penalties[0]
    bench.close(old)
    assert list(new.fast_open.penalties) == [earlier, later]
    assert (new.fast_open.used, old.fast_open.used) == (2, 0)
    assert missteps(bench) == []
    third = bench.listener(64, TCP_FASTOPEN=8)
    bench.close(new)
    assert list(third.fast_open.penalties) == [earlier, later]
    assert missteps(bench) == [PostedError.PENALTIES_WITHOUT_TAIL]
