"""When timers fire: at the very instant, or as late as Linux's do, which count ticks.

Stands for kernel/time/timer.c: a timer is put into a wheel, whose finest level has a tick for each
place; those further on have eight times as many, and so on, so that what is far away fires later.
"""

from __future__ import annotations

from dataclasses import dataclass

from segue.model.durations import TICK

_PLACES = 63  # of a level that can be used, in ticks of that level (LVL_START)
_SHIFT = 3  # to the next level (LVL_CLK_SHIFT)
_LEVELS = 8
_MICROSECOND = 1e-6


class Timing:
    """At the very instant."""

    def whole(self, seconds: float) -> float:
        """What this is as a timeout that may be doubled."""
        return seconds

    def at(self, now: float, seconds: float) -> float:
        """When a timer fires that is set to so many seconds."""
        return now + seconds


EXACT = Timing()


@dataclass(frozen=True, slots=True)
class Late(Timing):
    """Each timer fires ``by`` so many seconds late."""

    by: float

    def at(self, now: float, seconds: float) -> float:
        """When a timer fires that is set to so many seconds."""
        return now + seconds + self.by


@dataclass(frozen=True, slots=True)
class Ticks(Timing):
    """As Linux's: at ticks, which are counted from ``first`` on, at the instant 0 of the clock, and
    ``more`` ticks later.
    """

    first: int
    more: int = 0

    def whole(self, seconds: float) -> float:
        """In whole ticks (usecs_to_jiffies)."""
        return _ticks(seconds) * TICK

    def at(self, now: float, seconds: float) -> float:
        """When a timer fires that is set to so many seconds (calc_wheel_index)."""
        count = _ticks(seconds)
        due = self.first + int(now / TICK) + count
        level = 0
        while level < _LEVELS and count >= _PLACES << _SHIFT * level:
            level += 1
        fires = (due >> _SHIFT * level) + 1 << _SHIFT * level
        return (fires + self.more - self.first) * TICK


def _ticks(seconds: float) -> int:
    return -int(-round(seconds / _MICROSECOND) // round(TICK / _MICROSECOND))
