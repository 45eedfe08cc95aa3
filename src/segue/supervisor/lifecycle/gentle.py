"""For how long workers that start or stop leave the processors to the workers that serve.

A program that starts wants a whole processor for a second or more, and an interpreter that ends
wants one for tens of milliseconds.  Where none is spare, they take that from workers with clients.
So both have the lowest weight.  But where those that serve want every processor all the time, they
would never be ready or gone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from segue.linux.schedstat import Scheduled
from segue.observe.stall import Baseline

STARTING, STOPPING = "starting", "stopping"

# Those that get less than this part of what they could use would need several times as long.
# Beside workers of the same weight they would not get more than about two thirds of it either.
_PART = 1 / 3
_FIRST_SECONDS = 0.5  # of waiting by each: at a start much happens at once


@dataclass(frozen=True, slots=True)
class Gentle:
    """What a worker with the lowest weight has had of the processors.  Times are in seconds."""

    since: float
    looked: float
    ran: float = 0.0
    waited: float = 0.0  # with something to do
    threads: Mapping[int, Scheduled] = field(default_factory=dict)  # at the last look

    @classmethod
    def begin(cls, now: float) -> Gentle:
        """It starts to start or to stop now."""
        return cls(now, now)

    def look(self, now: float, threads: Mapping[int, Scheduled]) -> Gentle:
        """The account after one more look at its threads.

        Of several threads the one that waited longest counts: they may wait for one another.
        """
        nothing = Scheduled(0, 0, runnable=False)
        ran = sum(one.ran - self.threads.get(key, nothing).ran for key, one in threads.items())
        before = Baseline(self.looked, 0, self.threads)
        return replace(
            self,
            looked=now,
            ran=self.ran + ran / 1e9,
            waited=self.waited + before.starved(now, threads),
            threads=dict(threads),
        )


def enough(
    workers: Collection[Gentle], processors: int, limit: float, doing: str = STARTING
) -> str:
    """Why all of these get their full weight before they are ready or gone; "" while they do not.

    They are judged together, because they wait for one another too.
    """
    ran = sum(one.ran for one in workers)
    waited = sum(one.waited for one in workers)
    longest = max((one.looked - one.since for one in workers), default=0.0)
    usable = min(ran + waited, processors * longest)
    if waited > _FIRST_SECONDS * len(workers) and ran < _PART * usable:
        return f"they ran for {ran:.1f} s, and waited {waited:.1f} s for a processor"
    if workers and longest >= limit:
        return f"they have been {doing} for {longest:.0f} s"
    return ""
