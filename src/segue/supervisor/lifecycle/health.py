"""Workers that do not do their work although they run: what is known of them, and what is due.

A worker is replaced successor first, so if no successor becomes ready, nothing gets worse.  If all
are unwell the cause may be elsewhere, such as a database.  To replace them costs the requests that
they have, and does not help.  So there is a pace: one at a time, and the next one no sooner than it
takes to find out that a worker is unwell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from segue.supervisor.lifecycle.instance import Instance
from segue.supervisor.lifecycle.limits import Limits
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.lifecycle.steps import Abandon, Replace, Step

# If a worker stalls for a tenth of its time, its clients lose more than by a restart.
MEMORY = 10.0


@dataclass(frozen=True, slots=True)
class Stall:
    """A worker that lives but does not accept, at the last look, while another one does."""

    since: float
    queue: int = 0  # clients that wait at its listeners
    not_before: float = 0.0  # the earliest time at which its listeners may be cycled again
    total: float = 0.0  # seconds stalled within the last MEMORY times the limit ``stall_kill``


@dataclass(frozen=True, slots=True)
class Hang:
    """A worker that accepts nothing while clients wait, whatever the others do."""

    seconds: float
    able: float  # of these seconds, those in which it could have accepted
    waiting: int  # clients
    doing: str = ""  # what its processes do, in words

    def __str__(self) -> str:
        """What is said of the worker, as long as it lasts."""
        return f"accepts nothing for {self.seconds:.0f} s, {self.waiting} wait{self._evidence}"

    @property
    def why(self) -> str:
        """What is said of the worker that is replaced for it."""
        return (
            f"it accepted nothing for {self.seconds:.0f} s while {self.waiting} waited"
            f"{self._evidence}"
        )

    @property
    def _evidence(self) -> str:
        return f" ({self.doing})" if self.doing else ""


@dataclass(frozen=True, slots=True)
class Failing:
    """A worker whose last answers to ``--live-http`` were not good."""

    times: int  # in a row
    why: str  # of the last one
    hangs: bool = False  # it did not even accept

    def __str__(self) -> str:
        """What is said of the worker, as long as it lasts, and when it is replaced for it."""
        return f"{self.why} (failure {self.times} in a row)"


@dataclass(frozen=True, slots=True)
class Health:
    """What the last looks found, by worker id."""

    stalls: Mapping[int, Stall] = field(default_factory=dict)
    hangs: Mapping[int, Hang] = field(default_factory=dict)
    failing: Mapping[int, Failing] = field(default_factory=dict)


def replacements(instance: Instance, limits: Limits, health: Health, now: float) -> list[Step]:
    """Replace a worker that has been unwell for too long.

    During a restart nobody is replaced: the restart does it.  A canary is given up, and so are the
    newcomers of a restart in steps.
    """
    if instance.phase not in {Phase.SERVING, Phase.RENEWING, Phase.CANARY}:
        return []
    for one in instance.living:
        found = _unwell(one.id, limits, health)
        if one.stage is not Stage.SERVING or found is None:
            continue
        if one.generation == instance.newcomer:
            return [Abandon(one.generation, f"{one.name}: {found.why}")]
        paced = not instance.replaced or now >= instance.replaced + found.pace
        if paced and not instance.replacing and instance.phase is not Phase.RENEWING:
            return [Replace(one.id, found.why, found.hangs)]
    return []


@dataclass(frozen=True, slots=True)
class _Unwell:
    """Why a worker is to be replaced, and after how many seconds another one may be."""

    why: str
    hangs: bool
    pace: float


def _unwell(worker: int, limits: Limits, health: Health) -> _Unwell | None:
    why = _hangs(worker, limits, health)
    if why:
        return _Unwell(why, hangs=True, pace=limits.stall_kill)
    failing = health.failing.get(worker)
    if failing and failing.times >= limits.live_failures:
        return _Unwell(str(failing), failing.hangs, limits.live_failures * limits.live_every)
    return None


def _hangs(worker: int, limits: Limits, health: Health) -> str:
    """Why this worker accepts too little, or ""."""
    limit = limits.stall_kill
    if not limit:
        return ""
    stall, hang = health.stalls.get(worker), health.hangs.get(worker)
    if stall and stall.total >= limit:
        return f"it was stalled for {stall.total:.1f} of the last {MEMORY * limit:g} s"
    if hang and hang.able >= limit:
        return hang.why
    return ""
