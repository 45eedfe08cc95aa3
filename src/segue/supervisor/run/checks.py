"""The looks at workers that run, for whether they do their work."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from segue.supervisor.lifecycle.health import Health
from segue.supervisor.loop import Loop
from segue.supervisor.rescue.hangs import Hangs
from segue.supervisor.rescue.rescue import Rescue


@dataclass(frozen=True, slots=True)
class Checks:
    """Those of one service; closes them."""

    rescue: Rescue
    hangs: Hangs

    @property
    def health(self) -> Health:
        """What they have found."""
        return Health(self.rescue.stalls, self.hangs.hangs)

    @property
    def due(self) -> float:
        """When to call ``step`` next.  The loop asks rescue itself."""
        return self.hangs.due

    def step(self, loop: Loop) -> None:
        """Look at whatever is due; what is refused is said."""
        look = partial(self.hangs.step, loop.now, self.rescue.stalls)
        loop.attempt("looking for workers that hang", look)

    def close(self) -> None:
        """Close what they have open."""
        self.rescue.close()
