"""Which worker accepts nothing while a client waits, decided from looks about a second apart.

``observe.stall`` asks for a sibling that keeps up, since it wants to move what waits.  Here nobody
else needs to be awake: the only worker may hang, or all of them.  So there must be proof that
nothing was accepted between two looks:

    never less        accept(2) shrinks a queue.  A queue that is empty or shorter than at the look
                      before shows accepts.  Between two looks arrivals can hide them.
    counters          the program counts what it selects for a listener.  If its queue grew by all
                      of that, nothing was accepted.
    sockets           a SYN that was dropped or never completed was selected too, so counters may
                      show more than came.  An accept makes a socket in the process: if its
                      processes have no socket that they did not have, they accepted nothing.

Either of the last two is enough.  Without any of them a worker is believed to accept.  Only time
in which a worker could have run counts.  What it does with that time does not matter: a worker that
computes, or is busy with its requests, accepts too, be it rarely.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from segue.linux.schedstat import Scheduled
from segue.observe.stall import Baseline


@dataclass(frozen=True, slots=True)
class Sight:
    """A listener at which clients wait, at one look.  Times are seconds of any clock."""

    at: float
    queue: int
    selected: int | None = None  # by the program so far; None if it does not count
    sockets: frozenset[int] | None = None  # of its owner's processes; None if not all can be seen
    threads: Mapping[int, Scheduled] | None = None  # of its owner's processes; None if not read


@dataclass(frozen=True, slots=True)
class Silence:
    """A listener whose owner is not known to have accepted anything for a while."""

    last: Sight
    since: float
    able: float = 0.0  # seconds since then in which its owner could have accepted


def follow(before: Silence | None, now: Sight) -> Silence:
    """The silence after one more look; it begins anew where something may have been accepted."""
    if before is None or _may_have_accepted(before.last, now):
        return Silence(now, now.at)
    return replace(before, last=now, able=before.able + _able(before.last, now))


def _able(before: Sight, now: Sight) -> float:
    """The seconds between two looks in which the owner could have accepted, if that is known."""
    if before.threads is None or now.threads is None:
        return 0.0
    return Baseline(before.at, 0, before.threads).able(now.at, now.threads) * (now.at - before.at)


def _may_have_accepted(before: Sight, now: Sight) -> bool:
    if now.queue < before.queue:
        return True
    return not (_all_came_in(before, now) or _no_new_socket(before, now))


def _all_came_in(before: Sight, now: Sight) -> bool:
    if before.selected is None or now.selected is None:
        return False
    return now.selected - before.selected <= now.queue - before.queue


def _no_new_socket(before: Sight, now: Sight) -> bool:
    if before.sockets is None or now.sockets is None:
        return False
    return now.sockets <= before.sockets
