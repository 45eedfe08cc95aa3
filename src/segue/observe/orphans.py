"""What becomes of a connection whose owner has let go of it, while a duplicate is held: a rule.

Its owner has ended, or has closed it.  As long as there is a duplicate its client knows nothing of
that, and waits.  So each is carried soon, or it is ended.  An answer that is cut must end: its
client waits for the rest.  What nobody has read is lost with nobody: it may go along.

Where it cannot be known whether the last answer was whole, the client's next request tells, for a
client that does not send one early (``carrying.Refusal.EARLY``).  That is waited for, for a while.
"""

from __future__ import annotations

from enum import Enum

from segue.group import Connection
from segue.observe import kept
from segue.observe.carrying import Refusal
from segue.observe.kept import Left
from segue.page import Mark


class Fate(Enum):
    """What is to be done with it."""

    CARRY = "it goes to another listener"
    WAIT = "it goes there with its next request, or ends"


Why = Left | Refusal
# What may pass while the next request is waited for.
PASSES = frozenset(
    {
        Refusal.RECENT,
        Refusal.UNACKNOWLEDGED,
        Refusal.WAITING,
        Refusal.NO_TARGET,
        Refusal.TARGET_FULL,
        Refusal.NO_TIME,
        Refusal.LATE,
        Refusal.TAPPED,
    }
)


def after_an_end(
    seen: Connection, mark: Mark | None, grace: float | None, ago_ms: int
) -> Fate | Why:
    """Of a connection whose owner ended at most ``ago_ms`` before it was seen; or why it ends.

    ``mark`` is what the application said of it, with its age when it was seen.  With ``grace``, in
    seconds, the rule for HTTP/1.x decides where there is no mark.
    """
    if not seen.answered and seen.unread == seen.bytes_received:
        return Fate.CARRY  # nobody has read or written anything
    if mark is None and grace is not None:
        return _looks_so(seen, grace, ago_ms)
    why = kept.left(seen, mark)
    if why is Left.JUST_ANSWERED or (why is None and seen.unsent):
        return Fate.WAIT
    return Fate.CARRY if why is None else why


def after_a_close(
    seen: Connection, mark: Mark | None, rule: float | None, grace: float, ago_ms: int
) -> Fate | Why:
    """Of one that its owner closed, and lives on; or why it ends.  Never ``Fate.CARRY``.

    It ends unless it had been idle for ``grace`` seconds: the end may be a part of the answer.
    ``rule`` is the grace of ``after_an_end``.
    """
    if mark is not None or rule is None:
        why = kept.left(seen, mark)
        if why is not None:
            return why
    enough = grace * 1000 + ago_ms
    if seen.unsent:
        return Refusal.UNACKNOWLEDGED
    if seen.unread:
        # It came after all that was answered, and nobody has begun to read it.
        return Fate.WAIT if seen.sent_ms >= enough else Refusal.RECENT
    idle = seen.idle_ms
    if idle is None:
        return Left.BUSY
    return Fate.WAIT if idle >= enough else Refusal.RECENT


def _looks_so(seen: Connection, grace: float, ago_ms: int) -> Fate | Why:
    if seen.unread or seen.unsent:
        return Fate.WAIT
    idle = seen.idle_ms
    if idle is None:
        return Left.BUSY
    return Fate.CARRY if idle >= grace * 1000 + ago_ms else Fate.WAIT
