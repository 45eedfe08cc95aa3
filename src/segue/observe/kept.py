"""Whether an accepted connection waits between two requests: a rule over values.

The kernel knows whether an answer is owed, not whether one is whole.  The application knows the
second, and says it in a mark (``page.py``).  So both are asked: this rule compares the mark with
what the kernel last saw, and ``carrying.py`` has the last word while nothing moves.
"""

from __future__ import annotations

from enum import Enum

from segue.group import Connection
from segue.observe.carrying import Refusal
from segue.page import Mark, Says

# A server may have read the next request already, and begins it only now (pipelining).
SETTLED_MS = 20
# The kernel counts in ticks, of 10 ms at most, and all is said in whole milliseconds.  What is more
# would be time in which a request that was read may wait for the application.
_TICK_MS = 12
# A server may write a moment after the application.
_SLACK_MS = 20
# Something moved so lately that an answer and the next request may follow one another without a
# pause.
_TURN_MS = 50


class Left(Enum):
    """Why a connection is left where it is; the value is the sentence."""

    UNMARKED = "the application has said nothing of it"
    BUSY = "its request is being answered"
    LASTING = "it gets events until one side ends it, or speaks another protocol"
    JUST_ANSWERED = "its answer has only just ended"
    SENT_SINCE = "something was sent that is no answer of the application"
    CAME_SINCE = "a request has come that the application has not seen"
    GONE = "it has ended meanwhile"
    SILENT = "it is not known whether its last answer was whole, and its client sent nothing more"
    IDLE = "its client sent nothing for as long as --keep-idle says"


# What does not pass: such a connection is told to go with its next answer.
FOR_GOOD = frozenset(
    {
        Left.UNMARKED,
        Left.SENT_SINCE,
        Refusal.SYNCOOKIES_OFF,
        Refusal.TIMESTAMPS_OFF,
        Refusal.SACK_OFF,
        Refusal.SCALING_OFF,
        Refusal.BOUND,
        Refusal.NOT_TCP,
        Refusal.UNSEEN,
        Refusal.FILTERED,
        Refusal.TRANSLATED,
        Refusal.SMALL_MSS,
        Refusal.MICROSECONDS,
        Refusal.ACCURATE_ECN,
        Refusal.LOCKED,
        Refusal.EARLY,
        Refusal.NO_NOTES,
        Refusal.HTTP2,
        Refusal.UPGRADED,
        Refusal.CLOSING,
        Refusal.UNASKED,
    }
)


def untouched(seen: Connection) -> bool:
    """Not a byte has gone either way: whoever has it, it is as it was accepted."""
    return not seen.bytes_received and not seen.unread and not seen.answered


def left(seen: Connection, mark: Mark | None) -> Left | None:
    """Why it is left alone by what is known of it; None if it waits for its next request.

    ``mark`` is its owner's, with its age when the kernel was asked.
    """
    if untouched(seen):
        return None
    if mark is None:
        return Left.UNMARKED
    if mark.says is Says.LASTING:
        return Left.LASTING
    if mark.says is not Says.KEPT:
        return Left.BUSY
    if mark.age_ms < SETTLED_MS:
        return Left.JUST_ANSWERED
    if seen.sent_ms < mark.age_ms - _SLACK_MS:
        return Left.SENT_SINCE
    if seen.received_ms < mark.age_ms - _TICK_MS and not seen.unread:
        return Left.CAME_SINCE
    return None


def looks_kept(seen: Connection, grace: float, *, asleep: bool = False) -> Left | Refusal | None:
    """Why it is left alone by what the kernel saw, where the application says nothing of it.

    None if it may be between two requests, or be so in a moment: then its last answer and what its
    client sent decide (``carrying.by_notes``).  So they do with a request that an owner who is
    ``asleep`` will not read soon.  With a ``grace`` its answers are known to tell nothing: it has
    been quiet for so many seconds with no answer owed.
    """
    if untouched(seen) or (asleep and seen.unread and not seen.unsent):
        return None
    idle = seen.idle_ms
    if grace:
        if idle is None:
            return Left.BUSY
        return Refusal.RECENT if idle < grace * 1000 else None
    turns = seen.unread or min(seen.received_ms, seen.sent_ms) < _TURN_MS
    return Left.BUSY if idle is None and not turns else None


_NOW = {Says.BUSY: Left.BUSY, Says.KEPT: Left.JUST_ANSWERED, Says.LASTING: Left.LASTING}


def changed(mark: Mark | None) -> Left:
    """Why a connection is left alone of which the mark is another by now."""
    if mark is None:
        return Left.UNMARKED
    return _NOW[mark.says]
