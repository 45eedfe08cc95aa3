"""What a link decides: pure, with a clock made of numbers."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import UsageError
from segue.lab.link import Conditions, Direction
from segue.lab.scenario import link

# Milliseconds as whole numbers: what is compared is order, not rounding.
STEPS = st.lists(st.integers(0, 50), max_size=60)
CONDITIONS = st.builds(
    Conditions,
    delay_s=st.integers(0, 100).map(float),
    jitter_s=st.integers(0, 100).map(float),
    loss=st.sampled_from([0.0, 0.3, 1.0]),
)
SEEDS = st.integers(0, 1000)


def make(conditions: Conditions, seed: int = 0) -> Direction:
    return Direction(conditions, Random(seed).random)


def name(number: int) -> bytes:
    return b"%d" % number


def fill(pipe: Direction, steps: list[int]) -> float:
    """Send one packet after each step; the time of the last."""
    now = 0.0
    for number, step in enumerate(steps):
        now += step
        pipe.send(now, name(number))
    return now


def drain(pipe: Direction) -> list[tuple[float, bytes]]:
    """Everything under way, with the deadline at which it came."""
    found = []
    while (due := pipe.deadline()) is not None:
        came = pipe.take(due)
        assert came, "a deadline at which nothing is due"
        found += [(due, packet) for packet in came]
    return found


@given(STEPS, st.integers(0, 100), st.integers(0, 100), SEEDS)
def test_without_loss_every_packet_arrives_once_and_in_its_time(
    steps: list[int], delay: int, jitter: int, seed: int
) -> None:
    """Never before its delay, never after its delay and all of the jitter."""
    pipe = make(Conditions(delay, jitter), seed)
    fill(pipe, steps)
    arrived = drain(pipe)
    assert sorted(packet for _, packet in arrived) == sorted(name(i) for i in range(len(steps)))
    sent = {name(i): float(sum(steps[: i + 1])) for i in range(len(steps))}
    assert all(delay <= at - sent[packet] <= delay + jitter for at, packet in arrived)


@given(STEPS, st.integers(0, 100))
def test_a_constant_delay_keeps_the_order(steps: list[int], delay: int) -> None:
    """Also among those sent at the same instant."""
    pipe = make(Conditions(delay))
    fill(pipe, steps)
    assert [packet for _, packet in drain(pipe)] == [name(i) for i in range(len(steps))]


@given(STEPS, CONDITIONS, SEEDS, st.integers(0, 4000))
def test_nothing_arrives_before_its_deadline(
    steps: list[int], conditions: Conditions, seed: int, looked: int
) -> None:
    """A look at any time takes what was due then, and the deadline left is after it."""
    pipe = make(conditions, seed)
    looked_at = fill(pipe, steps) + looked
    pipe.take(looked_at)
    left = pipe.deadline()
    assert left is None or left > looked_at
    assert pipe.take(looked_at) == []


@given(STEPS, CONDITIONS, SEEDS)
def test_the_same_seed_has_the_same_fates(
    steps: list[int], conditions: Conditions, seed: int
) -> None:
    """What arrives, when, and what is lost."""
    first, second = make(conditions, seed), make(conditions, seed)
    fill(first, steps)
    fill(second, steps)
    assert first.counts() == second.counts()
    assert drain(first) == drain(second)


@given(STEPS, CONDITIONS, SEEDS, st.sets(st.integers(0, 59)), st.booleans())
def test_what_is_held_arrives_after_its_release_or_not_at_all(
    steps: list[int], conditions: Conditions, seed: int, chosen: set[int], keep: bool
) -> None:
    """None before; after it every one, in order: a held packet is not subject to loss."""
    pipe = make(conditions, seed)
    hold = pipe.hold(lambda packet: int(packet) in chosen)
    now = fill(pipe, steps) + 1000
    held = [name(i) for i in range(len(steps)) if i in chosen]
    assert hold.packets == held
    passed = {packet for _, packet in drain(pipe)}
    assert not passed & set(held)
    if keep:
        pipe.release(hold, now)
        assert pipe.take(now) == held
        assert pipe.deadline() is None
    else:
        pipe.discard(hold)
        assert pipe.take(now) == []
    counts = pipe.counts()
    assert counts.held == counts.under_way == 0
    assert counts.discarded == (0 if keep else len(held))
    assert counts.sent == counts.lost + counts.discarded + counts.arrived == len(steps)


def test_what_is_released_early_keeps_its_delay() -> None:
    """A hold makes no packet faster."""
    pipe = make(Conditions(10.0))
    hold = pipe.hold(lambda _: True)
    pipe.send(0.0, b"a")
    pipe.release(hold, 4.0)
    assert pipe.take(9.0) == []
    assert pipe.take(10.0) == [b"a"]


def test_what_is_released_late_has_waited() -> None:
    """It comes after what was due before its release, and in the order in which it was sent."""
    pipe = make(Conditions(1.0, 1.0), 7)
    hold = pipe.hold(lambda packet: packet != b"other")
    for number in range(20):
        pipe.send(0.0, name(number))
    pipe.send(0.5, b"other")
    pipe.release(hold, 3.0)
    assert pipe.take(3.0) == [b"other", *(name(number) for number in range(20))]


def test_a_hold_that_is_over_holds_nothing() -> None:
    """Neither what comes later nor, released or discarded again, what came before."""
    pipe = make(Conditions())
    hold = pipe.hold(lambda _: True)
    pipe.send(0.0, b"a")
    pipe.discard(hold)
    pipe.send(0.0, b"b")
    pipe.release(hold, 0.0)
    pipe.discard(hold)
    assert pipe.take(0.0) == [b"b"]
    assert hold.over


def test_the_oldest_hold_takes_a_packet() -> None:
    """A packet waits for one release, whoever else would have matched it."""
    pipe = make(Conditions())
    first, second = pipe.hold(lambda _: True), pipe.hold(lambda _: True)
    pipe.send(0.0, b"a")
    assert (first.packets, second.packets) == ([b"a"], [])
    pipe.release(first, 0.0)
    pipe.send(0.0, b"b")
    assert second.packets == [b"b"]
    assert pipe.take(0.0) == [b"a"]


def test_another_pipes_hold_is_refused() -> None:
    """It would be forgotten there and end here."""
    both = link(Conditions())
    hold = both.forth.hold(lambda _: True)
    with pytest.raises(UsageError, match="another pipe's"):
        both.back.release(hold, 0.0)
    assert not hold.over


def test_conditions_may_change_on_the_way() -> None:
    """What is under way keeps what it set out with, and may be overtaken."""
    pipe = make(Conditions(10.0))
    pipe.send(0.0, b"slow")
    pipe.conditions = Conditions(1.0)
    pipe.send(0.0, b"fast")
    assert drain(pipe) == [(1.0, b"fast"), (10.0, b"slow")]


def test_losses_are_about_as_many_as_asked() -> None:
    """A tenth of ten thousand, with the chance of one seed; none for 0, all for 1."""
    for loss, low, high in ((0.0, 0, 0), (0.1, 900, 1100), (1.0, 10_000, 10_000)):
        pipe = make(Conditions(loss=loss), 7)
        fill(pipe, [1] * 10_000)
        assert low <= pipe.counts().lost <= high


def test_jitter_lets_packets_overtake() -> None:
    """A hundred at once come in another order, over the whole width of the jitter."""
    pipe = make(Conditions(0.0, 10.0), 7)
    fill(pipe, [0] * 100)
    arrived = drain(pipe)
    assert any(int(one) > int(other) for (_, one), (_, other) in pairwise(arrived))
    assert arrived[0][0] < 1.0
    assert arrived[-1][0] > 9.0


def test_the_two_ways_are_two_pipes() -> None:
    """Their chance is apart, their deadline together; the way back may differ."""
    both = link(Conditions(5.0), Conditions(2.0))
    assert both.deadline() is None
    both.forth.send(0.0, b"there")
    assert both.deadline() == 5.0
    both.back.send(0.0, b"back")
    assert both.deadline() == 2.0
    same = link(Conditions(0.0, 1.0), seed=3)
    for pipe in (same.forth, same.back):
        pipe.send(0.0, b"x")
    assert same.forth.deadline() != same.back.deadline()


@pytest.mark.parametrize(
    ("delay", "jitter", "loss", "said"),
    [
        (-1.0, 0.0, 0.0, "a delay must be 0 or more"),
        (float("inf"), 0.0, 0.0, "a delay must be 0 or more"),
        (0.0, float("nan"), 0.0, "a jitter must be 0 or more"),
        (0.0, 0.0, 1.5, "a loss must be between 0 and 1"),
        (0.0, 0.0, float("nan"), "a loss must be between 0 and 1"),
    ],
)
def test_conditions_that_cannot_be(delay: float, jitter: float, loss: float, said: str) -> None:
    """Refused before a packet meets them."""
    with pytest.raises(UsageError, match=said):
        Conditions(delay, jitter, loss)
