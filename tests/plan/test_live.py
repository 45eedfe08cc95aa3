"""A live group: what is seen of it, and the load that this is evidence of."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from segue.address import Address
from segue.errors import UsageError
from segue.linux.sockopt import open_listener
from segue.observe.snapshot import Observer
from segue.plan.live import Looks, as_load, look
from segue.plan.load import Limits
from segue.plan.simulate import LOST, Study, forecast

HERE = Address("127.0.0.1", 8080)
SEEN = Looks(
    seconds=60.0,
    opened=6000,
    half_open=[4, 6] * 100,
    depths=[0, 0, 0, 2] * 50,
    kept=[20, 22],
    busy=[3, 5],
    idle_s=[1.0, 3.0],
    round_trips_s=dict(enumerate([0.02, 0.04, 0.06])),
    workers=3,
    backlog=128,
)


def test_a_load_is_what_was_seen() -> None:
    """The rate is the counter's, and what waits in the mean is as it was, by Little's law."""
    load = as_load(SEEN)
    assert (load.rate, load.workers, load.backlog, load.kept) == (100, 3, 128, 21)
    assert load.half_open == pytest.approx(5)
    assert load.rate * load.accept.mean_s == pytest.approx(0.5)
    assert (load.rate + load.kept / load.think_s) * load.answer.mean_s == pytest.approx(4)
    assert load.think_s == 2.0
    assert load.depths == tuple(SEEN.depths)


def test_the_forecast_of_a_close_is_what_was_seen_to_wait() -> None:
    """Half-open and queued, and what a close of kept connections loses."""
    close = forecast(Study(as_load(SEEN), Limits(beside=0.0), restarts=4000)).figure
    assert close("close", "lost_half_open").mean == pytest.approx(5, rel=0.05)
    assert close("close", "lost_queued").mean == pytest.approx(0.5, rel=0.15)
    assert close("close", LOST).low < 5.5 < close("close", LOST).high


def test_counts_that_differ_more_than_by_chance_are_a_burst() -> None:
    """So the interval is as wide as what was seen."""
    calm, wild = as_load(SEEN), as_load(replace(SEEN, half_open=[0, 0, 0, 20] * 50))
    assert calm.burst < 0.02
    assert wild.burst > 1.5


def test_a_rate_that_is_given_is_believed() -> None:
    """Where others' connections are counted too."""
    load = as_load(SEEN, rate=50)
    assert load.rate == 50
    assert load.half_open == pytest.approx(5)


def test_few_requests_do_not_tell_the_handshake() -> None:
    """Then it is as long as tcp_info's round trip."""
    load = as_load(replace(SEEN, half_open=[0] * 99 + [1]))
    assert load.round_trip.mean_s == pytest.approx(0.04, rel=0.1)


def test_a_group_that_nobody_connects_to_loses_nothing() -> None:
    """Every figure is 0."""
    quiet = Looks(seconds=1.0, half_open=[0], depths=[0])
    assert forecast(Study(as_load(quiet), restarts=10)).figure("close", LOST).worst == 0


def test_nothing_seen_is_no_load() -> None:
    """Rather than a load of nothing."""
    with pytest.raises(UsageError, match="look for longer"):
        as_load(Looks())


@contextlib.contextmanager
def group() -> Iterator[None]:
    """Two listeners: three connections half-open, four queued, and five accepted."""
    with contextlib.ExitStack() as stack:

        def connected(count: int) -> None:
            for _ in range(count):
                made = socket.create_connection((HERE.host, HERE.port))
                stack.enter_context(made).setblocking(False)

        first = stack.enter_context(open_listener(HERE, backlog=64))
        connected(5)
        for _ in range(5):
            accepted = stack.enter_context(first.accept()[0])
            accepted.send(b"x")
        connected(4)
        first.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        # The ACK of a client that says nothing leaves its request half-open.
        connected(3)
        second = stack.enter_context(open_listener(HERE, backlog=32))
        assert second.fileno() != first.fileno()
        yield


@pytest.mark.root
def test_a_live_group_is_counted(netns: int) -> None:
    """By every look the same, since nothing happens to it."""
    told: list[float] = []
    with group(), Observer() as observer:
        seen = look(observer, HERE, 0.3, told.append)
    assert set(seen.half_open) == {3}
    assert set(seen.depths) == {4}
    assert (seen.workers, seen.backlog, seen.opened, seen.others) == (2, 32, 0, 0)
    assert len(seen.round_trips_s) == 9
    assert told


@pytest.mark.root
def test_connections_that_were_there_before_are_kept(netns: int) -> None:
    """Those that a worker has accepted; looks at connections are a second apart."""
    with group(), Observer() as observer:
        seen = look(observer, HERE, 1.1, lambda _: None)
    assert seen.kept == [5]
    assert len(seen.idle_s) == 5


@pytest.mark.root
def test_where_nobody_listens_there_is_nothing_to_see(netns: int) -> None:
    """It says so."""
    with Observer() as observer, pytest.raises(UsageError, match="no process listens"):
        look(observer, HERE, 0.1, lambda _: None)
