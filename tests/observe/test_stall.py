"""Stalled or busy: what follows from looks at a queue."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from segue.linux.schedstat import Scheduled
from segue.observe.stall import (
    LOOKS,
    Baseline,
    Diagnosis,
    QueueHistory,
    Seen,
    follow,
    judge,
    room,
    to_mark,
)

PATIENCE = 0.05
PACE = 0.0125


def followed(queues: Sequence[int], backlog: int = 100, pace: float = PACE) -> QueueHistory | None:
    """The record after looks that saw these queues; an empty one ends a record."""
    record: QueueHistory | None = None
    for number, queue in enumerate(queues):
        at = number * pace
        if not queue:
            record = None
            continue
        record = follow(record, Seen(at, queue, backlog), at - pace, PATIENCE)
        if to_mark(record, at - pace, PATIENCE):
            record = record.mark(queue, {})
    return record


def diagnosis(
    queues: Sequence[int],
    *,
    accepted: int = 0,
    half_open: int = 0,
    free: int = 1000,
    able: float = 1.0,
) -> Diagnosis:
    """What is judged after these looks, ``accepted`` of what was selected since the mark."""
    return judged(followed(queues), accepted, half_open=half_open, free=free, able=able)


def judged(
    record: QueueHistory | None,
    accepted: int = 0,
    *,
    half_open: int = 0,
    free: int = 1000,
    able: float = 1.0,
) -> Diagnosis:
    """The same of a record."""
    assert record is not None
    selected = record.seen.queue + accepted
    return judge(record, PATIENCE, selected=selected, half_open=half_open, free=free, able=able)


@pytest.mark.parametrize("queues", [[1] * 5, [0, 1, 1, 2, 2, 3], [5, 4, 4, 4, 4, 4]])
def test_a_queue_that_never_shrinks_is_stalled(queues: list[int]) -> None:
    """For the whole patience, from when somebody waits or was last accepted."""
    assert diagnosis(queues) is Diagnosis.STALLED


@pytest.mark.parametrize(
    "queues", [[1] * 4, [3, 3, 3, 2, 2], [1, 1, 1, 0, 1, 1, 1], [9, 8, 7, 6, 5]]
)
def test_whoever_accepts_is_not_stalled(queues: list[int]) -> None:
    """A queue that was empty or shrank within the patience has an owner that accepts."""
    assert diagnosis(queues) is Diagnosis.EARLY


def test_accepts_behind_arrivals_are_counted() -> None:
    """The queue grew at every look, and yet more was selected than it and the handshakes hold."""
    grown = list(range(1, 8))
    assert diagnosis(grown, accepted=3, half_open=2) is Diagnosis.ACCEPTS
    assert diagnosis(grown, accepted=2, half_open=2) is Diagnosis.STALLED


def test_dropped_connections_are_no_accepts() -> None:
    """A full queue drops SYNs that the program has counted."""
    assert diagnosis([101] * 6, accepted=50) is Diagnosis.STALLED


def test_where_nobody_keeps_up_nobody_is_stalled() -> None:
    """One free place is enough to send what is new elsewhere, and none is not."""
    assert diagnosis([7] * 6, free=0) is Diagnosis.NO_ROOM
    assert diagnosis([7] * 6, free=1) is Diagnosis.STALLED


def test_before_a_mark_a_pause_in_the_looks_says_nothing() -> None:
    """What was between two looks is not known, so that the second one is as a first one."""
    record = follow(None, Seen(1.0, 1, 100), 1.0 - PACE, PATIENCE)
    record = follow(record, Seen(2.0, 1, 100), 1.0, PATIENCE)
    assert record.since == 2.0
    assert to_mark(record, 1.0, PATIENCE)


@pytest.mark.parametrize(("accepted", "found"), [(0, Diagnosis.STALLED), (1, Diagnosis.ACCEPTS)])
def test_after_a_mark_a_pause_is_left_to_the_counters(accepted: int, found: Diagnosis) -> None:
    """It takes more looks than LOOKS, however far apart; who accepted between is counted."""
    late = 2 * PATIENCE
    early, record = (followed([1] * looks, pace=late) for looks in (LOOKS, LOOKS + 2))
    assert judged(early) is Diagnosis.EARLY
    assert judged(record, accepted) is found


def test_what_an_owner_waited_for_a_processor_does_not_count() -> None:
    """It is judged when it could have run for the patience, and not before."""
    assert diagnosis([1] * 5, able=0.9) is Diagnosis.EARLY
    assert diagnosis([1] * 6, able=0.9) is Diagnosis.STALLED
    assert diagnosis([1] * 8, able=0.5) is Diagnosis.EARLY
    assert diagnosis([1] * 9, able=0.5) is Diagnosis.STALLED
    assert diagnosis([1] * 99, able=0.0) is Diagnosis.EARLY


def threads(*times: tuple[float, float, bool]) -> dict[int, Scheduled]:
    """Threads 1, 2, ... that ran and waited for so many milliseconds."""
    return {
        number: Scheduled(int(ran * 1e6), int(waited * 1e6), runnable)
        for number, (ran, waited, runnable) in enumerate(times, 1)
    }


@pytest.mark.parametrize(
    ("before", "after", "starved"),
    [
        ([(5, 1, False)], [(5, 1, False)], 0.0),  # asleep, or stopped
        ([(5, 1, True)], [(25, 1, True)], 0.0),  # computes
        ([(5, 1, True)], [(15, 11, True)], 0.01),  # computes, and others do
        ([(5, 1, True)], [(5, 1, True)], 0.02),  # has waited all the while
        ([(5, 1, False)], [(5, 1, True)], 0.0),  # woke a moment ago
        ([(5, 1, False), (0, 0, True)], [(5, 1, False), (2, 8, True)], 0.008),  # the longest
        ([(5, 1, True)], [(5, 901, True)], 0.02),  # most of it before the mark
        ([], [(5, 1, True)], 0.0),  # a new thread
        ([(5, 1, True)], [], 0.0),  # it is gone
    ],
)
def test_how_long_an_owner_was_starved(
    before: list[tuple[float, float, bool]],
    after: list[tuple[float, float, bool]],
    starved: float,
) -> None:
    """From two looks at its threads, 20 ms apart."""
    mark = Baseline(7.0, 0, threads(*before))
    assert mark.starved(7.02, threads(*after)) == pytest.approx(starved)
    assert mark.able(7.02, threads(*after)) == pytest.approx(1 - starved / 0.02)


def test_a_mark_says_nothing_of_its_own_moment() -> None:
    """The first look at the threads is the one before anything is known of them."""
    assert Baseline(7.0, 0, threads((5, 1, False))).able(7.0, threads((5, 1, False))) == 0.0


def test_room_is_with_those_that_keep_up() -> None:
    """An empty queue has its backlog and one free, one emptied lately the rest of it, a full one
    nothing, and one that has not been empty within the patience counts as busy.
    """
    lately = QueueHistory(Seen(1.0, 30, 100), since=0.99, empty=0.96)
    busy = QueueHistory(Seen(1.0, 1, 100), since=0.99, empty=0.9)
    full = QueueHistory(Seen(1.0, 101, 100), since=1.0, empty=1.0)
    assert room([100], 1.0, PATIENCE) == 101
    assert room([lately], 1.0, PATIENCE) == 71
    assert room([busy, full], 1.0, PATIENCE) == 0
    assert room([100, lately, busy, full], 1.0, PATIENCE) == 172


def test_saturation_is_no_stall() -> None:
    """All have a queue at every look, and serve: nobody has room."""
    everyone = [followed([5] * 20), followed([9] * 20)]
    siblings = [one for one in everyone if one is not None]
    assert room(siblings[1:], siblings[0].seen.at, PATIENCE) == 0
