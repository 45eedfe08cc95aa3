"""A subject of the loop that is over after so many rounds, and does nothing in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segue.supervisor.loop import Looks


@dataclass
class Rounds:
    """So many rounds, without waiting in any."""

    left: int
    looks: Sequence[Looks] = ()

    def over(self) -> bool:
        return self.left <= 0

    def settle(self) -> None:
        pass

    def deadline(self) -> float:
        return 0.0

    def tick(self) -> None:
        self.left -= 1
