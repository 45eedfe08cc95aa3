"""The looks at workers that run, for whether they do their work."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from segue.supervisor.lifecycle.health import Health
from segue.supervisor.loop import Loop
from segue.supervisor.rescue.hangs import Hangs
from segue.supervisor.rescue.liveness import Liveness
from segue.supervisor.rescue.rescue import Rescue


@dataclass(frozen=True, slots=True)
class Checks:
    """Those of one service; closes them."""

    rescue: Rescue
    hangs: Hangs
    liveness: Liveness

    @property
    def health(self) -> Health:
        """What they have found."""
        return Health(self.rescue.stalls, self.hangs.hangs, self.liveness.failing)

    @property
    def due(self) -> float:
        """When to call ``step`` next.  The loop asks rescue itself."""
        return min(self.hangs.due, self.liveness.due)

    def step(self, loop: Loop) -> None:
        """Look at whatever is due; what is refused is said."""
        look = partial(self.hangs.step, loop.now(), self.rescue.stalls)
        loop.attempt("looking for workers that hang", look)
        ask = partial(self.liveness.step, loop.now(), self.rescue.stalls)
        loop.attempt("asking workers whether they live", ask)

    def close(self) -> None:
        """Close what they have open."""
        self.liveness.close()
        self.rescue.close()
