"""What becomes of connections whose owner is gone, by what the kernel and the application say."""

from __future__ import annotations

from typing import Any

import pytest

from segue.group import Connection
from segue.observe.carrying import Refusal
from segue.observe.kept import Left
from segue.observe.orphans import PASSES, Fate, Why, after_a_close, after_an_end
from segue.page import Mark, Says

KEPT = Mark(Says.KEPT, 2000)
SEEN = Connection(
    1, 0, ("10.0.0.1", 1000), 1, unread=0, unsent=0, received_ms=2002, sent_ms=2001,
    bytes_received=80, answered=True,
)  # fmt: skip
NEW = {"bytes_received": 0, "answered": False}


@pytest.mark.parametrize(
    ("mark", "seen", "fate"),
    [
        (KEPT, {}, Fate.CARRY),
        (None, {}, Left.UNMARKED),
        (Mark(Says.BUSY, 2000), {}, Left.BUSY),
        # The server may have had a part of the answer in its own hands.
        (Mark(Says.KEPT, 19), {"received_ms": 21, "sent_ms": 20}, Fate.WAIT),
        (KEPT, {"unsent": 9}, Fate.WAIT),
        # What it had read is gone with it; what it had not read goes along.
        (KEPT, {"received_ms": 3}, Left.CAME_SINCE),
        (KEPT, {"received_ms": 3, "unread": 80}, Fate.CARRY),
        (None, NEW, Fate.CARRY),
        (None, {"bytes_received": 80, "unread": 80, "answered": False}, Fate.CARRY),
        (None, {"bytes_received": 160, "unread": 80, "answered": False}, Left.UNMARKED),
    ],
)
def test_after_an_end_by_marks(mark: Mark | None, seen: dict[str, Any], fate: Fate | Why) -> None:
    """Without a word of the application it ends, as its worker has."""
    assert after_an_end(SEEN._replace(**seen), mark, None, 100) is fate


@pytest.mark.parametrize(
    ("seen", "fate"),
    [
        ({}, Fate.CARRY),
        # It may have been less when the owner ended.
        ({"sent_ms": 1100}, Fate.CARRY),
        ({"sent_ms": 1099}, Fate.WAIT),
        ({"unsent": 1}, Fate.WAIT),
        ({"unread": 1}, Fate.WAIT),
        ({"received_ms": 1999}, Left.BUSY),
        (NEW, Fate.CARRY),
    ],
)
def test_after_an_end_by_what_it_looks_like(seen: dict[str, Any], fate: Fate | Why) -> None:
    """For HTTP/1.x, with a grace of a second."""
    assert after_an_end(SEEN._replace(**seen), None, 1.0, 100) is fate


def test_a_word_of_the_application_goes_before_the_looks() -> None:
    """Also where connections are carried by their looks."""
    assert after_an_end(SEEN, Mark(Says.BUSY, 9), 1.0, 100) is Left.BUSY


@pytest.mark.parametrize(
    ("mark", "seen", "fate"),
    [
        (KEPT, {}, Fate.WAIT),
        (None, {}, Left.UNMARKED),
        (Mark(Says.KEPT, 1099), {"sent_ms": 1099, "received_ms": 1101}, Refusal.RECENT),
        (Mark(Says.KEPT, 1100), {"sent_ms": 1100, "received_ms": 1102}, Fate.WAIT),
        (Mark(Says.KEPT, 5), {"sent_ms": 5, "received_ms": 7}, Left.JUST_ANSWERED),
        (KEPT, {"unsent": 9}, Refusal.UNACKNOWLEDGED),
        # The race itself: its client sent while the worker closed.
        (KEPT, {"unread": 80, "received_ms": 3}, Fate.WAIT),
        (KEPT, {"received_ms": 3}, Left.CAME_SINCE),
        (None, NEW, Fate.WAIT),
        (None, {**NEW, "received_ms": 900, "sent_ms": 900}, Refusal.RECENT),
    ],
)
def test_after_a_close(mark: Mark | None, seen: dict[str, Any], fate: Fate | Why) -> None:
    """It waits only if it had been idle for the grace of a second."""
    assert after_a_close(SEEN._replace(**seen), mark, None, 1.0, 100) is fate


def test_after_a_close_by_what_it_looks_like() -> None:
    """Where the application says nothing."""
    assert after_a_close(SEEN, None, 1.0, 1.0, 100) is Fate.WAIT
    owed = SEEN._replace(received_ms=1999)
    assert after_a_close(owed, None, 1.0, 1.0, 100) is Left.BUSY
    early = SEEN._replace(unread=80, received_ms=3, sent_ms=50)
    assert after_a_close(early, None, 1.0, 1.0, 100) is Refusal.RECENT


def test_what_cannot_be_carried_does_not_pass() -> None:
    """Such a connection is not made to wait."""
    assert not PASSES & {Refusal.UPGRADED, Refusal.HTTP2, Refusal.NO_REQUEST_LINE, Refusal.OWED}
