"""Stalled or busy: what follows from looks at a queue."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from segue.observe.stall import LOOKS, Record, Seen, Verdict, follow, judge, room, to_mark

PATIENCE = 0.05
PACE = 0.0125


def followed(queues: Sequence[int], backlog: int = 100, pace: float = PACE) -> Record | None:
    """The record after looks that saw these queues; an empty one ends a record."""
    record: Record | None = None
    for number, queue in enumerate(queues):
        at = number * pace
        if not queue:
            record = None
            continue
        record = follow(record, Seen(at, queue, backlog), at - pace, PATIENCE)
        if to_mark(record, at - pace, PATIENCE):
            record = record.mark(selected=queue)
    return record


def verdict(
    queues: Sequence[int], *, accepted: int = 0, half_open: int = 0, free: int = 1000
) -> Verdict:
    """What is judged after these looks, ``accepted`` of what was selected since the mark."""
    record = followed(queues)
    assert record is not None
    selected = record.seen.queue + accepted
    return judge(record, PATIENCE, selected=selected, half_open=half_open, free=free)


@pytest.mark.parametrize("queues", [[1] * 5, [0, 1, 1, 2, 2, 3], [5, 4, 4, 4, 4, 4]])
def test_a_queue_that_never_shrinks_is_stalled(queues: list[int]) -> None:
    """For the whole patience, from when somebody waits or was last accepted."""
    assert verdict(queues) is Verdict.STALLED


@pytest.mark.parametrize(
    "queues", [[1] * 4, [3, 3, 3, 2, 2], [1, 1, 1, 0, 1, 1, 1], [9, 8, 7, 6, 5]]
)
def test_whoever_accepts_is_not_stalled(queues: list[int]) -> None:
    """A queue that was empty or shrank within the patience has an owner that accepts."""
    assert verdict(queues) is Verdict.EARLY


def test_accepts_behind_arrivals_are_counted() -> None:
    """The queue grew at every look, and yet more was selected than it and the handshakes hold."""
    grown = list(range(1, 8))
    assert verdict(grown, accepted=3, half_open=2) is Verdict.ACCEPTS
    assert verdict(grown, accepted=2, half_open=2) is Verdict.STALLED


def test_dropped_connections_are_no_accepts() -> None:
    """A full queue drops SYNs that the program has counted."""
    assert verdict([101] * 6, accepted=50) is Verdict.STALLED


def test_where_nobody_keeps_up_nobody_is_stalled() -> None:
    """One free place is enough to send what is new elsewhere, and none is not."""
    assert verdict([7] * 6, free=0) is Verdict.NO_ROOM
    assert verdict([7] * 6, free=1) is Verdict.STALLED


def test_before_a_mark_a_pause_in_the_looks_says_nothing() -> None:
    """What was between two looks is not known, so that the second one is as a first one."""
    record = follow(None, Seen(1.0, 1, 100), 1.0 - PACE, PATIENCE)
    record = follow(record, Seen(2.0, 1, 100), 1.0, PATIENCE)
    assert record.since == 2.0
    assert to_mark(record, 1.0, PATIENCE)


@pytest.mark.parametrize(("accepted", "found"), [(0, Verdict.STALLED), (1, Verdict.ACCEPTS)])
def test_after_a_mark_a_pause_is_left_to_the_counters(accepted: int, found: Verdict) -> None:
    """It takes more looks than LOOKS, however far apart; who accepted between is counted."""
    late = 2 * PATIENCE
    early, record = (followed([1] * looks, pace=late) for looks in (LOOKS, LOOKS + 2))
    assert early is not None
    assert record is not None
    assert judge(early, PATIENCE, selected=1, half_open=0, free=9) is Verdict.EARLY
    assert judge(record, PATIENCE, selected=1 + accepted, half_open=0, free=9) is found


def test_room_is_with_those_that_keep_up() -> None:
    """An empty queue has its backlog and one free, one emptied lately the rest of it, a full one
    nothing, and one that has not been empty within the patience counts as busy.
    """
    lately = Record(Seen(1.0, 30, 100), since=0.99, empty=0.96)
    busy = Record(Seen(1.0, 1, 100), since=0.99, empty=0.9)
    full = Record(Seen(1.0, 101, 100), since=1.0, empty=1.0)
    assert room([100], 1.0, PATIENCE) == 101
    assert room([lately], 1.0, PATIENCE) == 71
    assert room([busy, full], 1.0, PATIENCE) == 0
    assert room([100, lately, busy, full], 1.0, PATIENCE) == 172


def test_saturation_is_no_stall() -> None:
    """All have a queue at every look, and serve: nobody has room."""
    everyone = [followed([5] * 20), followed([9] * 20)]
    siblings = [one for one in everyone if one is not None]
    assert room(siblings[1:], siblings[0].seen.at, PATIENCE) == 0
