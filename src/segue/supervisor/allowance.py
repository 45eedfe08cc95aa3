"""How much each may take: what keeps one flood from everybody else's time.

Pure: the time comes in.
"""

from __future__ import annotations

from dataclasses import dataclass


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
