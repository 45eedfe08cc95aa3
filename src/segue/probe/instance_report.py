"""Segue's side of a run, where ``segue run`` serves the target: its stages and its counters.

The status of the instance (segue.supervisor.control.status) is looked at again and again while the
load goes on; the first and the last make the differences, and what changed between two makes the
stages.  What tells its age (a generation's start, the flip) is placed in time by it; the rest is
late by up to one look.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from segue.supervisor.control.status import Status

Ask = Callable[[], Status | None]
"""The status now; None if no instance serves the target, or if it does not answer any more."""

# A look costs the supervisor a dump of the group's sockets: never more than a tenth of its time.
BEAT_S = 0.1
SHARE = 0.1
# How long the load waits for the first one.
PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Milestone:
    """Something was seen to have happened, so many seconds after the run began."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True)
class InstanceReport:
    """What grew between the first look and the last one, and what happened.

    ``counts`` are the program's decisions by kind (segue.policy.counts): ``new`` connections, and
    each ``request``, ``child`` and ``fastopen`` child that migrated; empty with an engine that
    cannot count.  ``by_hash`` were left to the kernel's hash; ``moved`` were made to migrate, by
    cycling a listener; ``cut`` were accepted and ended by Segue.  Accepted ones that went to
    another worker are ``carried``, of which ``carried_unread`` took a request along, and
    ``left_alone`` counts those that did not, by the reason.  A supervisor that is replaced by
    another in the middle counts anew, and nothing is shown below zero.
    """

    name: str
    engine: str
    counts: dict[str, int]
    by_hash: int
    moved: int
    cut: int
    restarts: int
    marks: tuple[Milestone, ...]
    carried: int = 0
    carried_unread: int = 0
    carry_delayed: int = 0
    carry_lost: int = 0
    left_alone: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def counters(self) -> Iterator[tuple[str, int]]:
        """Names and differences, for a table."""
        own = {"by hash": self.by_hash, "moved": self.moved, "cut": self.cut}
        for name, value in (self.counts | own | {"restarts": self.restarts}).items():
            yield name.replace("_", " "), value
        carries = {
            "carried": self.carried,
            "with an unread request": self.carried_unread,
            "delayed": self.carry_delayed,
            "lost by a carry": self.carry_lost,
            **{f"left alone ({why})": count for why, count in self.left_alone.items()},
        }
        yield from ((name, value) for name, value in carries.items() if value)


class InstanceWatch:
    """Looks from ``start`` to ``finish``, in a thread of its own; ``ask`` may wait."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._looks: list[tuple[float, Status]] = []
        self._first, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="watch", daemon=True)

    def start(self) -> None:
        """Returns after the first look, or when that takes too long."""
        self._thread.start()
        self._first.wait(PATIENCE_S)

    def stop(self) -> None:
        """Look once more and no further."""
        self._over.set()

    def finish(self, origin: float) -> InstanceReport | None:
        """What was found; None when Segue does not serve the target.  ``origin`` is monotonic."""
        self.stop()
        self._thread.join(PATIENCE_S)
        looks = [(max(0.0, at - origin), look) for at, look in self._looks]
        return report_of(looks) if looks else None

    def _follow(self) -> None:
        last = False
        while not last:
            last = self._over.is_set()
            began = time.monotonic()
            look = self._ask()
            now = time.monotonic()
            if look is not None:
                self._keep(now, look)
            elif not self._looks:
                break
            # Without an answer for once, such as in a re-exec, the next look tells.
            self._first.set()
            if not last:
                self._over.wait(max(BEAT_S, (now - began) / SHARE))
        self._first.set()

    def _keep(self, now: float, look: Status) -> None:
        # Most looks are like those around them: a run of an hour must fit in memory.
        kept = [one for _, one in self._looks[-2:]] + [look]
        if len(kept) == 3 and not any(news(a, b) for a, b in pairwise(kept)):
            self._looks.pop()
        self._looks.append((now, look))


def news(before: Status, after: Status) -> bool:
    """Something that ``report_of`` would mark."""
    return bool(list(_marks([(0.0, before), (0.0, after)])))


def report_of(looks: Sequence[tuple[float, Status]]) -> InstanceReport:
    """The difference of the first and the last of these, and the marks between."""
    first, last = looks[0][1], looks[-1][1]
    marks = tuple(sorted(_marks(looks), key=lambda mark: mark.at_s))
    before, after = _counts(first), _counts(last)
    return InstanceReport(
        name=last.name,
        engine=last.engine,
        counts={kind: _grown(before[kind], value) for kind, value in after.items()},
        by_hash=_grown(_by_hash(first), _by_hash(last)),
        moved=_grown(first.moved, last.moved),
        cut=_grown(first.cut, last.cut),
        restarts=sum(mark.text.endswith(" serves") for mark in marks),
        marks=marks,
        carried=_grown(first.carried, last.carried),
        carried_unread=_grown(first.carried_unread, last.carried_unread),
        carry_delayed=_grown(first.carry_delayed, last.carry_delayed),
        carry_lost=_grown(first.carry_lost, last.carry_lost),
        left_alone={
            why: grown
            for why, count in last.left_alone.items()
            if (grown := _grown(first.left_alone.get(why, 0), count))
        },
    )


def _generations(look: Status) -> dict[int, float]:
    """Those with a worker, and how old the oldest is."""
    found: dict[int, float] = {}
    for one in look.workers:
        number = one.generation
        found[number] = max(found.get(number, 0.0), one.age)
    return found


def _counts(look: Status) -> Counter[str]:
    """The program's decisions by kind, over the addresses of the instance."""
    found: Counter[str] = Counter()
    for front in look.fronts:
        found.update(front.counts)
    return found


def _by_hash(look: Status) -> int:
    return sum(front.by_hash for front in look.fronts)


def _grown(before: int, after: int) -> int:
    return max(0, after - before)


def _marks(looks: Sequence[tuple[float, Status]]) -> Iterator[Milestone]:
    for (began, before), (at, after) in pairwise(looks):
        went = before.newcomer
        # Workers tell their age, so a beginning is not late, however short it was.
        for number in sorted(_generations(after).keys() - _generations(before).keys()):
            yield Milestone(
                max(0.0, at - _generations(after)[number]), f"generation {number} starts"
            )
        if after.working not in {None, before.working}:
            # The flip tells its age too; a rollback or a promotion is none.
            flipped = at - (after.flip_age or 0.0)
            seen_before = flipped < began
            yield Milestone(at if seen_before else flipped, f"generation {after.working} serves")
        if went is not None and went not in {after.newcomer, after.working}:
            yield Milestone(at, f"generation {went} is given up")
        gone = _generations(before).keys() - _generations(after).keys()
        for number in sorted(gone - {went}):
            yield Milestone(at, f"generation {number} is gone")
