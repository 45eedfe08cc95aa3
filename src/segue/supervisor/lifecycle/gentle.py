"""For how long newcomers leave the processors to the workers that serve.

A program that starts wants a whole processor for a second or more.  Where none is spare, it takes
that from workers with clients.  So newcomers start with the lowest weight.  But where those that
serve want every processor all the time, newcomers would never be ready.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from segue.linux.schedstat import Scheduled
from segue.observe.stall import Baseline

# Newcomers that get less than this part of what they could use would start several times as late.
# Beside workers of the same weight they would not get more than about two thirds of it either.
_PART = 1 / 3
_FIRST_SECONDS = 0.5  # of waiting by each: at a start much happens at once


@dataclass(frozen=True, slots=True)
class Gentle:
    """What a newcomer with the lowest weight has had of the processors.  Times are in seconds."""

    since: float
    looked: float
    ran: float = 0.0
    waited: float = 0.0  # with something to do
    threads: Mapping[int, Scheduled] = field(default_factory=dict)  # at the last look

    @classmethod
    def begin(cls, now: float) -> Gentle:
        """It starts now."""
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


def enough(newcomers: Collection[Gentle], processors: int, limit: float) -> str:
    """Why newcomers get their full weight although they are not ready; "" while they do not.

    They are judged together, because they wait for one another too.
    """
    ran = sum(one.ran for one in newcomers)
    waited = sum(one.waited for one in newcomers)
    longest = max((one.looked - one.since for one in newcomers), default=0.0)
    usable = min(ran + waited, processors * longest)
    if waited > _FIRST_SECONDS * len(newcomers) and ran < _PART * usable:
        return f"they ran for {ran:.1f} s, and waited {waited:.1f} s for a processor"
    if longest >= limit:
        return f"they have been starting for {longest:.0f} s"
    return ""
