"""Which listener has a stalled owner and which a busy one, decided from looks at its queue.

Four conditions must hold, since each alone is wrong:
    no accepts        for ``patience`` the queue was never seen empty and never seen to shrink.
                      Only accept() shrinks it: a child whose client is gone stays (FACTS, gone).
    none hidden       new connections can hide accepts in a queue whose length does not change.  So
                      what the program selected must still be in the queue.  If it selected more
                      than the queue and the half-open requests can hold, some were accepted.
    others keep up    a sibling's queue was seen empty within ``patience``, and there is room in it.
                      If all are equally slow, moving does not help.  How much to move at once
                      is another question (``room``): migration does not look at a backlog
                      (FACTS, backlog).
    not starved       only time in which the owner could have accepted counts.  If more threads
                      want to run than there are processors, a worker may wait for a processor
                      during most of the patience while a sibling runs, and be as able a moment
                      later.  To read its threads at every look would cost too much, so before the
                      first reading they count as having waited as much as after it.

A request that waits unread on an accepted connection is a reason to ask: a connection of ours, a
*knock*, then lies in the queue.  If it is not accepted, and the request is still not read, the
owner has done nothing since the request came (``Doubt``).

What the owner does meanwhile (asleep, stopped, computing) does not matter: for the clients that
wait, a worker that computes for a second is the same as one that sleeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from segue.linux.schedstat import Scheduled

# Longer than a server that is well takes over one event, and short enough that of a stall of
# 1 s in every 3 fewer than one client in a hundred feels it (docs/RESCUE.md).
PATIENCE = "30ms"
# Looks within the patience: enough that accepts between two of them do not all hide, and few
# enough to cost little (docs/RESCUE.md has the figures).
LOOKS = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """A listener that has something queued, at one look.  Times are seconds of any clock."""

    at: float
    queue: int
    backlog: int

    @property
    def full(self) -> bool:
        """A SYN that comes now is counted by the program and dropped."""
        return self.queue > self.backlog


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is compared with later: counters, and what the owner's threads had run and waited."""

    at: float
    accounted: int  # selected, and not in the queue
    threads: Mapping[int, Scheduled] = field(default_factory=dict)

    def starved(self, at: float, threads: Mapping[int, Scheduled]) -> float:
        """How many seconds since the mark one of the threads waited for a processor.

        That of the one that waited longest: which of them accepts is not known.
        """
        longest = 0.0
        for number, now in threads.items():
            before = self.threads.get(number)
            if before is None:
                continue
            # What it waits right now is in no account yet.
            still = now.runnable and before.runnable and now[:2] == before[:2]
            waited = at - self.at if still else (now.waited - before.waited) / 1e9
            longest = max(longest, waited)
        return min(longest, at - self.at)

    def able(self, at: float, threads: Mapping[int, Scheduled]) -> float:
        """The part of the time since the mark, 0 to 1, in which its owner could have accepted.

        0 at the mark itself, which tells nothing of it.
        """
        return 1 - self.starved(at, threads) / (at - self.at) if at > self.at else 0.0


@dataclass(frozen=True, slots=True)
class QueueHistory:
    """What the looks so far say of a listener whose queue is not empty."""

    seen: Seen
    since: float  # no accept has been seen from then on
    empty: float  # when it was last seen empty
    marked: Baseline | None = None  # at some time since ``since``

    def mark(self, selected: int, threads: Mapping[int, Scheduled]) -> QueueHistory:
        """Remember how many had been selected at this look, and its owner's threads."""
        return replace(self, marked=Baseline(self.seen.at, selected - self.seen.queue, threads))


class Diagnosis(Enum):
    """What ``judge`` comes to."""

    EARLY = auto()  # it has not waited long enough to say
    ACCEPTS = auto()  # behind arrivals: start again from here
    NO_ROOM = auto()  # it may be stalled, and no sibling keeps up
    STALLED = auto()


def follow(before: QueueHistory | None, seen: Seen, looked: float, patience: float) -> QueueHistory:
    """The record after one more look; ``looked`` is when the look before was.

    Of a pause in the looks only the counters know: it counts no more than the usual time between
    two looks, and where there was no mark before it the waiting begins anew.
    """
    if before is None:
        return QueueHistory(seen, since=seen.at, empty=min(looked, seen.at))
    paused = _paused(seen.at, before.seen.at, patience)
    unknown = paused and before.marked is None
    if seen.queue < before.seen.queue or unknown:
        return QueueHistory(seen, since=seen.at, empty=before.empty)
    excess = seen.at - before.seen.at - patience / LOOKS if paused else 0.0
    return replace(before, seen=seen, since=before.since + excess)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A request that its owner has not read, while its queue had nothing that it could accept."""

    since: float  # when it came

    @staticmethod
    def old(since: float, at: float, patience: float) -> bool:
        """It waits for longer than an event of a server that is well takes."""
        return at - since >= patience / LOOKS

    def strengthens(self, record: QueueHistory, accepted: float) -> QueueHistory:
        """The record, as if what waits in the queue had come with the request.

        ``accepted`` is when an accept was last seen: before that its owner was well.
        """
        return replace(record, since=min(record.since, max(self.since, accepted)))


def to_mark(record: QueueHistory, looked: float, patience: float) -> bool:
    """Read the counters now: no accept was seen between two looks, or the looks pause."""
    waited = record.seen.at - record.since >= patience / (LOOKS + 1)
    return record.marked is None and (waited or _paused(record.seen.at, looked, patience))


def _paused(at: float, looked: float, patience: float) -> bool:
    """We did not run, or had other things to do, for more than two looks."""
    return at - looked > 2.25 * patience / LOOKS


def room(siblings: Iterable[QueueHistory | int], at: float, patience: float) -> int:
    """How many the siblings that keep up can take: of one with an empty queue, its backlog.

    And one more, as a backlog of N holds N + 1: else what waits in a queue that is full would fit
    into no sibling, and never be moved.
    """
    free = 0
    for one in siblings:
        if isinstance(one, int):
            free += one + 1
        elif at - one.empty <= patience:
            free += max(0, one.seen.backlog + 1 - one.seen.queue)
    return free


def judge(
    record: QueueHistory, patience: float, *, selected: int, half_open: int, free: int, able: float
) -> Diagnosis:
    """Whether the owner of this listener is stalled.

    ``selected`` is all that the program has sent to the listener, ``half_open`` how many requests
    there are at its address, ``free`` the siblings' ``room``, ``able`` what ``Baseline`` says.
    """
    if record.marked is None or record.seen.at - record.since < patience:
        return Diagnosis.EARLY
    # Where the queue is full, the program counts SYNs that are dropped: only shrinking tells then.
    if not record.seen.full and selected - record.seen.queue - record.marked.accounted > half_open:
        return Diagnosis.ACCEPTS
    if (record.seen.at - record.since) * able < patience:
        return Diagnosis.EARLY
    return Diagnosis.STALLED if free else Diagnosis.NO_ROOM
