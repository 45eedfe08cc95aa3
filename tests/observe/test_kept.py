"""Which connections wait between two requests, by what the kernel saw and the application said."""

from __future__ import annotations

from typing import Any

import pytest

from segue.group import Connection
from segue.observe.carrying import Refusal
from segue.observe.kept import FOR_GOOD, Left, changed, left, untouched
from segue.page import Mark, Says

KEPT = Mark(Says.KEPT, 500)
SEEN = Connection(
    1, 2, ("10.0.0.1", 1000), 1, unread=0, unsent=0, received_ms=502, sent_ms=501,
    bytes_received=80, answered=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("mark", "seen", "why"),
    [
        (KEPT, {}, None),
        (None, {}, Left.UNMARKED),
        (Mark(Says.BUSY, 500), {}, Left.BUSY),
        (Mark(Says.LASTING, 500), {}, Left.LASTING),
        (Mark(Says.KEPT, 19), {"received_ms": 21, "sent_ms": 20}, Left.JUST_ANSWERED),
        (Mark(Says.KEPT, 20), {"received_ms": 21, "sent_ms": 20}, None),
        # The server writes a moment after the application, and the kernel counts in ticks.
        (KEPT, {"sent_ms": 480}, None),
        (KEPT, {"sent_ms": 479}, Left.SENT_SINCE),
        (KEPT, {"received_ms": 488}, None),
        (KEPT, {"received_ms": 487}, Left.CAME_SINCE),
        (KEPT, {"received_ms": 3, "unread": 80}, None),
        # A client that has only connected.
        (None, {"bytes_received": 0, "answered": False}, None),
        (None, {"bytes_received": 0, "answered": True}, Left.UNMARKED),
        (None, {"bytes_received": 5, "answered": False, "unread": 5}, Left.UNMARKED),
    ],
)
def test_the_rule(mark: Mark | None, seen: dict[str, Any], why: Left | None) -> None:
    """None means that it waits for its next request."""
    assert left(SEEN._replace(**seen), mark) is why


def test_untouched_is_without_a_byte_either_way() -> None:
    """Half a request is not."""
    assert untouched(SEEN._replace(bytes_received=0, answered=False))
    assert not untouched(SEEN._replace(bytes_received=0, answered=False, unread=1))
    assert not untouched(SEEN)


@pytest.mark.parametrize(
    ("mark", "why"),
    [
        (None, Left.UNMARKED),
        (Mark(Says.BUSY, 1), Left.BUSY),
        (Mark(Says.LASTING, 1), Left.LASTING),
        (Mark(Says.KEPT, 1), Left.JUST_ANSWERED),
    ],
)
def test_what_has_changed_is_left_alone(mark: Mark | None, why: Left) -> None:
    """Whatever is said of it now."""
    assert changed(mark) is why


def test_what_passes_is_not_for_good() -> None:
    """Else its client would be told to go."""
    passing: set[Left | Refusal] = {Left.BUSY, Left.JUST_ANSWERED, Left.CAME_SINCE, Left.GONE}
    passing |= {Refusal.OWED, Refusal.UNACKNOWLEDGED, Refusal.TARGET_FULL, Refusal.OWNER_RUNS}
    assert not FOR_GOOD & passing
