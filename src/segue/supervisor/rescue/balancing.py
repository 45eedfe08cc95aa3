"""``--balance queue`` of one instance: collects the facts for the rule of ``observe.balance``.

The looks of ``rescue`` see how many connections wait.  Counters are read when a window begins and
when it ends, about once a second.  A worker has accepted the connections that the program selected
for it, without those that still wait, were dropped or were moved away.

A worker whose requests take longer than ``--rescue`` allows counts as stalled during each of them.
That time counts as busy.  A worker that stalls for longer is asleep and not slow.  It gets the same
share again when it wakes, and the facts collected until then are dropped.  While any worker stalls,
weights do not change.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from segue.engine.steering import counts_of
from segue.errors import NotSupported
from segue.linux.inet_diag import info_of
from segue.linux.sockopt import defers, drops
from segue.observe.balance import Balance, Window
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.health import Stall
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.settings import Settings

# Seconds between two looks: a hundred a second show clearly which worker always has a queue.
EVERY = 0.01
# Seconds of a window, and so the least time between two refills; the runner looks each second.
_SECONDS = 0.9
# Seconds: longer than most requests, and shorter than what people call a stall.
_ASLEEP = 0.5


@dataclass(slots=True)
class _Read:
    """One worker's counters at one moment, over all its listeners."""

    kept: int = 0  # selected, without those that wait or were moved away
    dropped: int = 0

    def accepted_since(self, earlier: _Read) -> int:
        """How many were accepted, if there were as many half-open requests then as now."""
        return max(0, self.kept - earlier.kept - max(0, self.dropped - earlier.dropped))


@dataclass(slots=True)
class _Gathered:
    """The facts since the window began."""

    begun: float
    reads: dict[int, _Read]
    waiting: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    busy: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))


class Balancing:
    """The windows of all serving workers, and the weights that follow from them."""

    def __init__(self, instance: Instance, fronts: Sequence[Front]) -> None:
        self._instance, self._fronts = instance, fronts
        self._rules: dict[int, Balance] = {}  # by generation: only siblings are compared
        self._window: _Gathered | None = None

    def saw(
        self, now: float, seconds: float, depths: Mapping[int, int], stalls: Mapping[int, Stall]
    ) -> None:
        """Take one look: how many connections wait at each worker; none if a worker is missing.

        ``seconds`` is the time since the previous look.  ``stalls`` has the workers that stall now.
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
        """If the window is full, set the instance's weights by the rule.

        ``diverted`` is the number of connections that were selected for a worker and that it never
        accepted from a client.
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
                continue  # it has started meanwhile
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
                # In this order, so that a connection selected meanwhile does not look accepted.
                selected, info = front.selected(at.slot), info_of(listener)
                one.kept += selected - (info.unacked if info else 0)
                one.dropped += 0 if defers(listener) else drops(listener) or 0
        return found


def refuse_uncounted(settings: Settings) -> None:
    """Raise NotSupported if connections are not counted, or shares would not follow weights.

    Segue's own program and policies always do both.  An object is loaded to check it, and closed.
    """
    if not settings.counting or not settings.object:
        return
    weights = settings.balance == "queue"
    with contextlib.closing(settings.program_choice.steering()) as steering:
        if counts_of(steering) and (steering.weighs or not weights):
            return
    raise NotSupported(
        settings.counting,
        "an object with the maps 'tables', 'control' and 'counters', by which shares are given and"
        " counted"
        if weights
        else "an object with the map 'counters', by which connections are counted",
        f"{settings.program_choice} without them",
    )
