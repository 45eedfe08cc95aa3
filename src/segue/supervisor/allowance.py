"""How much one source may use, so that a flood does not take the time of all others.

Pure: the caller gives the time.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Allowance:
    """An amount that may be used at once, and a rate a second after that."""

    rate: float
    burst: float
    left: float
    at: float  # the time of ``left``

    @classmethod
    def full(cls, rate: float, burst: float, now: float) -> Allowance:
        """An allowance of which nothing is used."""
        return cls(rate, burst, burst, now)

    def spend(self, cost: float, now: float) -> bool:
        """Use this much of it.  False if it is used up after this."""
        self.left = min(self.burst, self.left + (now - self.at) * self.rate) - cost
        self.at = now
        return self.left > 0

    @property
    def due(self) -> float:
        """The time from which something is left, if nothing more is used."""
        return self.at if self.left > 0 else self.at - self.left / self.rate
