"""The time in which no worker serves although workers have served: what is said of it, and when."""

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

    since: float | None = None
    failed: int = 0  # starts
    last: str = ""  # how the last of them failed
    _due: float = 0.0
    _said: bool = False

    def death(self, how: str) -> None:
        """A start has failed."""
        self.failed += 1
        self.last = how

    def look(self, instance: Instance, now: float) -> str:
        """The sentence that is due now; "" if there is none."""
        serving = any(one.stage is Stage.SERVING for one in instance.living)
        if serving or instance.phase not in _GOING:
            over = self._said and serving
            lasted = 0.0 if self.since is None else now - self.since
            self.since, self.failed, self.last, self._said = None, 0, "", False
            return f"workers serve again, after {lasted:.0f} s without any" if over else ""
        if self.since is None:
            self.since, self._due = now, now + _FIRST
        if now < self._due:
            return ""
        self._due, self._said = now + _EVERY, True
        return self.sentence(now)

    def sentence(self, now: float) -> str:
        """What there is to know of this outage; "" while a worker serves."""
        if self.since is None:
            return ""
        last = f" (the last: {self.last})" if self.last else ""
        return (
            f"no worker has served for {now - self.since:.0f} s; {self.failed} start(s) have"
            f" failed{last}; starts are tried for ever, at most {SLOWEST:g} s apart"
        )
