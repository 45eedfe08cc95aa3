"""What the model says of what it does: where things go and why, which timer, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from tests.model.peers import Bench, Peer

from segue.model import cookies
from segue.model.events import (
    Choice,
    CookieSent,
    Fired,
    Miscounted,
    Moved,
    Occasion,
    Refusal,
    Refused,
    Timer,
)
from segue.model.listener import Listener
from segue.model.picture import Section
from segue.model.profile import LINUX, SERIES, Profile
from segue.model.program import Program, SkAction
from segue.model.states import State
from segue.wire.seq import Seq
from segue.wire.tcp import ACK

T = TypeVar("T")


def said(bench: Bench, kind: type[T]) -> list[T]:
    """The events of this kind since the last look."""
    return [one for one in bench.host.events() if isinstance(one, kind)]


def between(switch: int = 1, profile: Profile = LINUX) -> tuple[Bench, Listener, Peer]:
    """A listener with a half-open request, and the switch as it is to be when it stops."""
    bench = Bench(profile=profile)
    bench.host.sysctls.tcp_migrate_req = switch
    old = bench.listener()
    peer = Peer(bench)
    peer.syn()
    return bench, old, peer


@pytest.mark.parametrize("profile", [LINUX, SERIES], ids=lambda one: one.name)
@pytest.mark.parametrize(
    ("occasion", "move"),
    [
        (Occasion.ACK, lambda bench, peer: peer.send(ACK)),
        (Occasion.TIMER, lambda bench, peer: bench.wait(1.1)),
    ],
    ids=["ACK", "timer"],
)
def test_a_request_says_when_it_moves_and_by_what(
    occasion: Occasion, move: Callable[[Bench, Peer], None], profile: Profile
) -> None:
    """At its ACK or its timer, by the hash: in both profiles."""
    bench, old, peer = between(profile=profile)
    new = bench.listener()
    bench.close(old)
    assert said(bench, Moved) == []
    move(bench, peer)
    (moved,) = said(bench, Moved)
    assert moved == Moved(
        moved.cookie, State.NEW_SYN_RECV, old.cookie, new.cookie, occasion, Choice.HASH
    )


@pytest.mark.parametrize(
    ("switch", "later", "sibling", "program", "why"),
    [
        (0, 0, True, None, Choice.NOT_KEPT),
        (1, 0, True, None, Choice.SWITCH_IS_OFF),
        (1, 1, False, None, Choice.NOBODY_LISTENS),
        (0, 0, True, SkAction.DROP, Choice.CANCELLED),
    ],
)
@pytest.mark.parametrize("occasion", [Occasion.ACK, Occasion.TIMER])
def test_what_goes_nowhere_says_why(
    switch: int, later: int, sibling: bool, program: SkAction | None, why: Choice,
    occasion: Occasion,
) -> None:  # fmt: skip
    """The switch then, the switch now, nobody there, or a program's word."""
    bench, old, peer = between(switch)
    if sibling:
        bench.listener()
    if program is not None:
        bench.host.attach(old, Program(lambda _: program))
    bench.close(old)
    bench.host.sysctls.tcp_migrate_req = later
    if occasion is Occasion.ACK:
        peer.send(ACK)
    else:
        bench.wait(1.1)
    (moved,) = said(bench, Moved)
    assert (moved.target, moved.occasion, moved.choice) == (None, occasion, why)


@pytest.mark.parametrize(("switch", "why"), [(0, Choice.NOT_KEPT), (1, Choice.NOBODY_LISTENS)])
@pytest.mark.parametrize("profile", [LINUX, SERIES], ids=lambda one: one.name)
def test_a_child_that_goes_nowhere_says_why(profile: Profile, switch: int, why: Choice) -> None:
    """As a queue of one, too."""
    bench = Bench(profile=profile)
    bench.host.sysctls.tcp_migrate_req = switch
    old = bench.listener()
    Peer(bench).connect()
    bench.close(old)
    (moved,) = said(bench, Moved)
    assert (moved.target, moved.occasion, moved.choice) == (None, Occasion.STOP, why)


def test_a_reset_where_a_handshake_migrates_is_counted_elsewhere() -> None:
    """The target then believes that it has -1; the series has no such event."""
    for profile in (LINUX, SERIES):
        bench, old, peer = between(profile=profile)
        new = bench.listener()
        bench.close(old)
        peer.seq, peer.ack = peer.seq, 0
        peer.rst()
        wrong = [(one.kept_by, one.counted_out) for one in said(bench, Miscounted)]
        assert wrong == ([(old.cookie, new.cookie)] if profile is LINUX else [])
        assert bench.host.listener_picture(new).counted == (-1 if profile is LINUX else 0)


@pytest.mark.parametrize(
    ("switch", "reason"), [(0, Refusal.HALF_OPEN_ARE_FULL), (1, None)], ids=["off", "on"]
)
def test_a_full_listener_refuses_or_sends_a_cookie(switch: int, reason: Refusal | None) -> None:
    """More half-open requests than the backlog."""
    bench = Bench()
    bench.host.sysctls.tcp_syncookies = switch
    full = bench.listener(0)
    Peer(bench).syn()
    bench.host.events()
    late = Peer(bench)
    late.raw(2, b"", late.offer, ack=0)
    events = bench.host.events()
    expected = Refused(full.cookie, reason) if reason else CookieSent(full.cookie)
    assert events == [expected]


def test_what_seems_a_cookie_from_before_the_clock_is_none() -> None:
    """In the first minutes of a host any number may seem that old; Linux's counts wrap there."""
    flow, irs = b"flow", Seq(5)
    cookie = cookies.make(bytes(16), 0.0, flow, irs, 1460, ipv6=False)
    assert cookies.mss_in(bytes(16), 0.0, flow, irs, cookie, ipv6=False) == 1460
    older = Seq((cookie - (1 << 24)) & 0xFFFFFFFF)
    assert cookies.mss_in(bytes(16), 0.0, flow, irs, older, ipv6=False) == 0


def test_a_full_accept_queue_refuses() -> None:
    """The SYN, and the ACK that would end a handshake."""
    bench = Bench()
    full = bench.listener(0)
    late = Peer(bench)
    late.syn()
    Peer(bench).connect()
    bench.host.events()
    late.final_ack()
    assert bench.host.events() == [Refused(full.cookie, Refusal.QUEUE_IS_FULL)]
    later = Peer(bench)
    later.raw(2, b"", later.offer, ack=0)
    assert bench.host.events() == [Refused(full.cookie, Refusal.QUEUE_IS_FULL)]


def test_timers_have_names() -> None:
    """Of a handshake, of what was sent, and of what was not answered."""
    bench, listener, peer = between()
    bench.wait(1.1)
    assert [one.timer for one in said(bench, Fired)] == [Timer.SYN_ACK]
    peer.got()
    peer.final_ack()
    accepted = bench.host.accept(listener)
    bench.host.write(bench.now, accepted, b"hello")
    bench.wait(2.0)
    assert [one.timer for one in said(bench, Fired)][:2] == [Timer.TAIL_PROBE, Timer.RETRANSMISSION]


def test_a_picture_says_what_stands_where() -> None:
    """The queue, what is half-open, the section, and what a connection has not read."""
    bench, old, _ = between()
    queued = Peer(bench).connect()
    queued.data(b"early")
    picture = bench.host.listener_picture(old)
    request, child = bench.host.flow_pictures()
    assert (picture.section, picture.backlog, picture.counted) == (Section.LIVE, 8, 1)
    assert (picture.half_open, picture.queue) == ((request.cookie,), (child.cookie,))
    assert (request.state, child.state) == (State.NEW_SYN_RECV, State.ESTABLISHED)
    assert (child.remote_port, child.listener, child.unread) == (queued.port, old.cookie, 5)
    new = bench.listener()
    bench.close(old)
    assert bench.host.listener_picture(old).section is Section.CLOSED
    assert bench.host.listener_picture(old).half_open == (request.cookie,)
    assert bench.host.listener_picture(new).queue == (child.cookie,)
