"""The time in which workers are missing: what is said of it, and when.

Where none serves although workers have served, it is an outage, and is said once a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

from segue.supervisor.lifecycle.crashes import SLOWEST
from segue.supervisor.lifecycle.instance import Instance
from segue.supervisor.lifecycle.stages import Phase, Stage

_FIRST = 10.0  # seconds: a replacement has usually been started by then
_EVERY = 60.0
_GOING = frozenset({Phase.SERVING, Phase.RENEWING, Phase.CANARY})


@dataclass(slots=True)
class Outage:
    """One outage after the other.  Time and deaths come in, sentences go out."""

    since: float | None = None  # when no worker served any more
    missing: int = 0  # of so many workers that are wanted, at the last look
    wanted: int = 0
    failed: int = 0  # starts, since not all served
    last: str = ""  # how the last of them failed
    _due: float = 0.0
    _said: bool = False

    def death(self, how: str) -> None:
        """A start has failed."""
        self.failed += 1
        self.last = how

    def look(self, instance: Instance, now: float) -> str:
        """The sentence that is due now; "" if there is none."""
        going = instance.phase in _GOING
        serving = sum(one.stage is Stage.SERVING for one in instance.living)
        self.wanted, self.missing = instance.size, max(0, instance.size - serving) if going else 0
        if not self.missing:
            self.failed, self.last = 0, ""
        if serving or not going:
            over = self._said and serving
            lasted = 0.0 if self.since is None else now - self.since
            self.since, self._said = None, False
            return f"workers serve again, after {lasted:.0f} s without any" if over else ""
        if self.since is None:
            self.since, self._due = now, now + _FIRST
        if now < self._due:
            return ""
        self._due, self._said = now + _EVERY, True
        return self.sentence(now)

    def sentence(self, now: float) -> str:
        """What there is to know of this outage, or of the workers that are missing; "" if none is
        missing, or if no start of one has failed.
        """
        if self.since is None:
            said = f"{self.missing} of {self.wanted} worker(s) are missing"
            return f"{said}; the last start failed: {self.last}" if self.last else ""
        last = f" (the last: {self.last})" if self.last else ""
        return (
            f"no worker has served for {now - self.since:.0f} s; {self.failed} start(s) have"
            f" failed{last}; starts are tried for ever, at most {SLOWEST:g} s apart"
        )
