"""``--balance queue`` of one runner: gathers what the rule of ``observe.balance`` goes by.

How many wait is what the looks of ``rescue`` see anyhow.  Counters are read when a window begins
and ends, about once a second: accepted is what the program selected and neither waits, nor was
dropped, nor moved away.

A worker that takes longer for one request than ``--rescue`` says is taken for stalled with each:
that is time in which it was busy.  Who stalls for longer is asleep rather than slow, and its share
is to be the same again when it wakes: what was gathered then is dropped.  While anybody stalls
there is no refill.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from segue.engine.steering import counts_of
from segue.errors import NotSupported
from segue.linux.inet_diag import info_of
from segue.linux.sockopt import drops
from segue.observe.balance import Balance, Window
from segue.policy.counts import Counts
from segue.supervisor.lifecycle.instance import Worker
from segue.supervisor.lifecycle.stages import Stage

if TYPE_CHECKING:
    from segue.supervisor.run.runner import Runner
    from segue.supervisor.settings import Settings

# Between two looks: at a second's hundred of them it is plain who always has a queue.
EVERY = 0.01
# A window, and so the least time between two refills; the runner comes round each second.
_SECONDS = 0.9
# Longer than most requests take, and shorter than what people call a stall.
_ASLEEP = 0.5


@dataclass(slots=True)
class _Read:
    """One worker's counters at one moment, over all its listeners."""

    kept: int = 0  # selected, less those that wait or were moved away
    dropped: int = 0

    def accepted_since(self, earlier: _Read) -> int:
        """How many, as far as the half-open requests were as many as now."""
        return max(0, self.kept - earlier.kept - max(0, self.dropped - earlier.dropped))


@dataclass(slots=True)
class _Gathered:
    """What was seen since a window began."""

    begun: float
    reads: dict[int, _Read]
    waiting: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    busy: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))


class Balancing:
    """Windows of every worker that serves, and the weights that follow from them."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.on = runner.settings.balance == "queue"
        self._rules: dict[int, Balance] = {}  # by generation: only siblings are compared
        self._window: _Gathered | None = None

    def saw(self, now: float, seconds: float, depths: Mapping[int, int]) -> None:
        """Take one look: how many wait at each worker, none where nothing is said.

        ``seconds`` are those since the look before.
        """
        window = self._window
        if not self.on or window is None:
            return
        stalls = self.runner.rescue.stalls
        if any(now - one.since > _ASLEEP for one in stalls.values()):
            self._window = None
            return
        for worker, depth in depths.items():
            window.waiting[worker] += depth * seconds
        for worker in {*depths, *stalls}:
            window.busy[worker] += seconds

    def step(self, now: float) -> None:
        """Refill when a window is full: the instance's weights are those of the rule then."""
        if not self.on or self.runner.rescue.stalls:
            return
        window = self._window
        if window is not None and now - window.begun < _SECONDS:
            return
        reads = self._read()
        self._window = _Gathered(now, reads)
        if window is not None:
            self._refill(window, reads, now - window.begun)

    def _refill(self, window: _Gathered, reads: Mapping[int, _Read], seconds: float) -> None:
        instance = self.runner.instance
        by_generation: dict[int, dict[int, Window]] = {}
        for worker in self._serving():
            before = window.reads.get(worker.id)
            if before is None:
                continue  # it has come meanwhile
            by_generation.setdefault(worker.generation, {})[worker.id] = Window(
                seconds,
                reads[worker.id].accepted_since(before),
                window.waiting[worker.id] / seconds,
                min(1.0, window.busy[worker.id] / seconds),
            )
        weights: dict[int, float] = {}
        for generation, windows in by_generation.items():
            rule = self._rules.setdefault(generation, Balance())
            weights |= rule.refill(windows, instance.balance, instance.factors)
        for generation in self._rules.keys() - by_generation.keys():
            del self._rules[generation]
        instance.balance = weights

    def _serving(self) -> list[Worker]:
        living = self.runner.instance.living
        return [one for one in living if one.stage is Stage.SERVING and one.holds]

    def _read(self) -> dict[int, _Read]:
        counts = [counts_of(front.steering) for front in self.runner.fronts]
        found = {}
        for worker in self._serving():
            story = self.runner.rescue.stories.get(worker.id)
            gone = story.rescued + story.knocks if story else 0
            one = found[worker.id] = _Read(-gone)
            for hold in worker.holds:
                listener = self.runner.fronts[hold.bind].sockets.get(hold.slot)
                if listener is None:
                    continue
                selected = counts[hold.bind].get(hold.slot, Counts())
                info = info_of(listener)
                one.kept += selected.new + selected.migrated - (info.unacked if info else 0)
                one.dropped += drops(listener) or 0
        return found


def refuse_uncounted(settings: Settings) -> None:
    """Raise NotSupported where shares would not follow weights, or nobody counts by worker.

    Of Segue's own program and of policies that is known; an object is loaded, and closed again.
    """
    if settings.balance != "queue" or not settings.object:
        return
    with contextlib.closing(settings.program_choice.steering()) as steering:
        if steering.weighs and counts_of(steering):
            return
    raise NotSupported(
        "--balance queue",
        "an object with the maps 'tables', 'control' and 'counters', by which shares are given and"
        " counted",
        f"{settings.program_choice} without them",
    )
