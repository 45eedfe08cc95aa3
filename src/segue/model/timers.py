"""What is due, and when: one heap for all timers.

Each owner has one instant, ``due``.  Putting it off is free: the entry in the heap is looked at
when its old time comes, and goes back in.  So a connection that moves its timer with each segment
has one entry, and not one for each segment.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Generic, Protocol, TypeVar


class Owner(Protocol):
    """``due`` is set by ``Timers.set``; ``wake`` is the heap's own note."""

    due: float
    wake: float


T = TypeVar("T", bound=Owner)
_SMALL = 64  # below this, entries that are not wanted any more may stay


class Timers(Generic[T]):
    """Deadlines in the order of time; equal ones in the order in which they were set."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._serial = count()
        self._wanted = 0

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, owner: T, due: float) -> None:
        """The owner wants this instant, and no other; infinity for none."""
        owner.due = due
        if due < owner.wake:
            owner.wake = due
            heappush(self._heap, (due, next(self._serial), owner))
            if len(self._heap) > self._wanted:
                self._sweep()

    def pop(self, now: float) -> T | None:
        """One owner whose instant has come; its instant is over with that."""
        while self._heap and self._heap[0][0] <= now:
            when, _, owner = heappop(self._heap)
            if when != owner.wake:
                continue
            owner.wake = inf
            if owner.due <= now:
                owner.due = inf
                return owner
            self.set(owner, owner.due)
        return None

    def deadline(self) -> float | None:
        """When ``pop`` may have something: never later than that.  None for never."""
        heap = self._heap
        while heap:
            when, _, owner = heap[0]
            if when == owner.wake and owner.due != inf:
                return when
            heappop(heap)
            if when == owner.wake:
                owner.wake = inf
        return None

    def _sweep(self) -> None:
        """Remove unwanted entries, whenever there are twice as many as were wanted last."""
        kept = [one for one in self._heap if one[0] == one[2].wake and one[2].due != inf]
        for when, _, owner in self._heap:
            if owner.due == inf and when == owner.wake:
                owner.wake = inf
        self._heap = kept
        heapify(self._heap)
        self._wanted = max(_SMALL, 2 * len(kept))
