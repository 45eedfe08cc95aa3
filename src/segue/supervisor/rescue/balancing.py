"""``--balance queue`` of one instance: gathers what the rule of ``observe.balance`` needs.

The looks of ``rescue`` see how many connections wait.  Counters are read when a window begins and
when it ends, about once a second: a worker has accepted what the program selected for it, less
what waits, was dropped or was moved away.

A worker whose requests take longer than ``--rescue`` allows counts as stalled during each of them:
that time counts as busy.  A worker that stalls for longer is asleep rather than slow, and gets the
same share again when it wakes: what was gathered until then is dropped.  While any worker stalls
the weights stay.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from segue.engine.steering import counts_of
from segue.errors import NotSupported
from segue.linux.inet_diag import info_of
from segue.linux.sockopt import drops
from segue.observe.balance import Balance, Window
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.plan import Stall
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.settings import Settings

# Between two looks: a hundred a second show plainly which worker always has a queue.
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

    def __init__(self, instance: Instance, fronts: Sequence[Front]) -> None:
        self._instance, self._fronts = instance, fronts
        self._rules: dict[int, Balance] = {}  # by generation: only siblings are compared
        self._window: _Gathered | None = None

    def saw(
        self, now: float, seconds: float, depths: Mapping[int, int], stalls: Mapping[int, Stall]
    ) -> None:
        """Take one look: how many wait at each worker, none where nothing is said.

        ``seconds`` are those since the look before; ``stalls`` has the workers that stall now.
        """
        window = self._window
        if window is None:
            return
        if any(now - one.since > _ASLEEP for one in stalls.values()):
            self._window = None
            return
        for worker, depth in depths.items():
            window.waiting[worker] += depth * seconds
        for worker in {*depths, *stalls}:
            window.busy[worker] += seconds

    def step(self, now: float, stalls: Mapping[int, Stall], diverted: Callable[[int], int]) -> None:
        """Refill when a window is full: the instance's weights are those of the rule then.

        ``diverted`` says how many connections were selected for a worker and never accepted by it
        from a client.
        """
        window = self._window
        if stalls or (window is not None and now - window.begun < _SECONDS):
            return
        reads = self._read(diverted)
        self._window = _Gathered(now, reads)
        if window is not None:
            self._refill(window, reads, now - window.begun)

    def _refill(self, window: _Gathered, reads: Mapping[int, _Read], seconds: float) -> None:
        instance = self._instance
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
        living = self._instance.living
        return [one for one in living if one.stage is Stage.SERVING and one.listeners]

    def _read(self, diverted: Callable[[int], int]) -> dict[int, _Read]:
        found = {}
        for worker in self._serving():
            one = found[worker.id] = _Read(-diverted(worker.id))
            for at in worker.listeners:
                front = self._fronts[at.bind]
                listener = front.sockets.get(at.slot)
                if listener is None:
                    continue
                # In this order: what is selected meanwhile must not look like what was accepted.
                selected, info = front.selected(at.slot), info_of(listener)
                one.kept += selected - (info.unacked if info else 0)
                one.dropped += drops(listener) or 0
        return found


def refuse_uncounted(settings: Settings) -> None:
    """Raise NotSupported where shares would not follow weights, or nothing counts by worker.

    Segue's own program and policies always do both; an object is loaded to see, and closed again.
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
