"""Whose turn it is, and how much each may take: what keeps one flood from everybody else's time.

Pure: the time comes in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """A queue in which everybody stands at most once; who has had a turn goes to its end."""

    def __init__(self) -> None:
        self._waiting: deque[T] = deque()
        self._known: set[T] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, one: object) -> bool:
        return one in self._known

    def add(self, one: T) -> None:
        """Let it wait behind the others, if it does not wait already."""
        if one not in self._known:
            self._known.add(one)
            self._waiting.append(one)

    def take(self) -> T:
        """Who has waited longest.  Raises IndexError when nobody waits."""
        one = self._waiting.popleft()
        self._known.discard(one)
        return one

    def discard(self, one: T) -> None:
        """It waits no more."""
        if one in self._known:
            self._known.discard(one)
            self._waiting.remove(one)


@dataclass(slots=True)
class Allowance:
    """So much at once, and so much a second from then on."""

    rate: float
    burst: float
    left: float
    at: float  # when ``left`` was so

    @classmethod
    def full(cls, rate: float, burst: float, now: float) -> Allowance:
        """Nothing of it is used."""
        return cls(rate, burst, burst, now)

    def spend(self, cost: float, now: float) -> bool:
        """Take this much of it; False when it is used up, after this."""
        self.left = min(self.burst, self.left + (now - self.at) * self.rate) - cost
        self.at = now
        return self.left > 0
