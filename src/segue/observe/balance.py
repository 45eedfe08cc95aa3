"""Load-aware shares: what each worker can do, from its queue and its accepts, and what follows.

A worker whose queue does not empty accepts as fast as it can: then, and only then, its accept rate
is its *ability*.  Shares go in proportion to abilities, so that a slow worker gets less.  Depths
alone would not do: a queue is the sum of all that was too much so far, so weights that follow it
swing, and where equal workers are near their limit mere luck would move them.

Why each bound is what it is stands beside it; docs/BALANCE.md has the rule in words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# With no share at all a worker could never show that it has recovered; an eighth is enough to see
# it.
FLOOR = 0.125
# A worker that fails every request accepts fastest of all: it must not attract all clients.
CEILING = 2.0
# One refill lowers a weight at most by half and raises it at most by a quarter: an overloaded
# worker makes clients wait every second, and a worker that has recovered can wait.
DOWN, UP = 0.5, 1.25
# The part of the looks at which a client waited: from here on the worker had no time to spare.
SATURATED = 0.75
# Up to here it had time to spare: each time its capacity is assumed to be a twentieth higher.
EASY, MORE = 0.25, 1.05
# A worker that was never saturated is assumed to be able to do at most this many times what it
# does.
BELIEVED = 2.0
# A queue that is longer than its siblings' should be worked off in this many seconds.
CATCH_UP = 3.0
# This part of the earlier measurements counts with the next window: about the last five count.
MEMORY = 0.8
# No refill for a change below a quarter, or below two standard deviations of what is counted.
NOISE, DEVIATIONS = 0.25, 2.0
# Workers whose capacities differ by less than half of that are equal, whatever their weights were.
HOME = 0.5
_NEGLIGIBLE = 1e-6
_NOTHING = 1e-300  # a weight of which parts are no numbers any more
_EXACT = 1e-9  # two sums of weights that differ by less are the same


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen of one worker's listeners for some time."""

    seconds: float
    accepted: float
    waiting: float  # how many waited, on the average
    busy: float  # the part of the time in which anybody did, 0 to 1


@dataclass(slots=True)
class _Ability:
    """Accepts while saturated and the seconds they took, older ones counting less."""

    accepted: float
    seconds: float

    @property
    def rate(self) -> float:
        return self.accepted / self.seconds

    def doubt(self, ablest: float) -> float:
        """Standard deviation, as a part, of what one as able as that would have accepted.

        As if the times between two accepts were exponential; they mostly are more regular.
        """
        return 1 / math.sqrt(max(1.0, ablest * self.seconds))


class Balance:
    """The rule, and what it remembers of each worker by id: no clock, no sockets."""

    def __init__(self) -> None:
        self._known: dict[int, _Ability] = {}  # of those that were saturated
        self._usual: dict[int, tuple[float, float]] = {}  # of everyone: busy, accepts a second

    def refill(
        self,
        windows: Mapping[int, Window],
        weights: Mapping[int, float],
        ordered: Mapping[int, float],
    ) -> dict[int, float]:
        """The workers' weights after this window; those of before when nothing is worth a change.

        A weight multiplies what was ``ordered``, and both are 1 unless given; their sum of products
        stays that of the orders, each weight within FLOOR and CEILING.  Workers without a window
        are forgotten.
        """
        if not windows:
            return {}
        orders = {one: ordered.get(one, 1.0) for one in windows}
        before = bounded({one: weights.get(one, 1.0) for one in windows}, orders)
        self._learn(windows, before)
        target = self._target(windows, before, orders)
        if target == before:
            return before
        step = {
            one: min(max(to, DOWN * before[one]), UP * before[one]) for one, to in target.items()
        }
        return bounded(step, orders)

    def _learn(self, windows: Mapping[int, Window], weights: Mapping[int, float]) -> None:
        for kept in (self._known, self._usual):
            for gone in kept.keys() - windows.keys():
                del kept[gone]
        newcomers = windows.keys() - self._usual.keys()
        for one, seen in windows.items():
            busy, rate = self._usual.get(one, (seen.busy, seen.accepted / seen.seconds))
            busy += (1 - MEMORY) * (seen.busy - busy)
            rate += (1 - MEMORY) * (seen.accepted / seen.seconds - rate)
            self._usual[one] = busy, rate
        ablest = self._ablest()
        for one, seen in windows.items():
            known = self._known.get(one)
            if one in newcomers and weights[one] < 1 and ablest:
                # A supervisor before this one has measured it.
                known = self._known[one] = _Ability(weights[one] * ablest, 1.0)
            if seen.busy >= SATURATED:
                if known is None:
                    known = self._known[one] = _Ability(0.0, 0.0)
                known.accepted = MEMORY * known.accepted + seen.accepted
                known.seconds = MEMORY * known.seconds + seen.seconds * math.sqrt(seen.busy)
            elif known is not None and self._usual[one][0] <= EASY:
                shown = known.seconds * seen.accepted / seen.seconds
                known.accepted = max(MORE * known.accepted, shown)
                if known.rate >= ablest:
                    del self._known[one]

    def _ablest(self) -> float:
        """The highest rate that a worker is known, or assumed, to reach."""
        return max(
            self._known[one].rate
            if one in self._known
            # The part of looks with a waiting client is the square of the part with work (M/M/1).
            else rate / max(1 / BELIEVED, math.sqrt(busy))
            for one, (busy, rate) in self._usual.items()
        )

    def _wanted(
        self, windows: Mapping[int, Window], before: Mapping[int, float]
    ) -> dict[int, float]:
        """In what proportion they should be given connections."""
        if not self._known:
            return dict.fromkeys(windows, 1.0)
        ablest = self._ablest()
        if not ablest:
            return dict(before)  # no worker accepts anything: there is nothing to measure
        rates = self._rates(windows, ablest)
        behind = self._behind(windows, rates, ablest)
        return {
            one: rate * (1 - min(max(behind[one] / CATCH_UP, -0.25), 0.75))
            for one, rate in rates.items()
        }

    def _rates(self, windows: Mapping[int, Window], ablest: float) -> dict[int, float]:
        return {one: self._known[one].rate if one in self._known else ablest for one in windows}

    def _behind(
        self, windows: Mapping[int, Window], rates: Mapping[int, float], ablest: float
    ) -> dict[int, float]:
        """Seconds by which each worker's queue is longer than all of them together are."""
        common = sum(one.waiting for one in windows.values()) / sum(rates.values())
        return {
            one: windows[one].waiting / max(rate, FLOOR * ablest) - common
            for one, rate in rates.items()
        }

    def _target(
        self,
        windows: Mapping[int, Window],
        before: dict[int, float],
        orders: Mapping[int, float],
    ) -> dict[int, float]:
        """Where to go: nowhere for what may be chance, home when nobody is plainly different."""
        wanted, ablest = bounded(self._wanted(windows, before), orders), self._ablest()
        chance = {
            one: NOISE + DEVIATIONS * known.doubt(ablest) for one, known in self._known.items()
        }
        if all(abs(math.log(wanted[one])) <= HOME * by for one, by in chance.items()):
            return dict.fromkeys(before, 1.0)
        worth = any(abs(math.log(wanted[one] / before[one])) > by for one, by in chance.items())
        if not worth and ablest:
            # A queue that is not worked off in time is no chance, however small the change.
            behind = self._behind(windows, self._rates(windows, ablest), ablest)
            worth = any(behind[one] > CATCH_UP for one in chance)
        return wanted if worth else before


def bounded(wanted: Mapping[int, float], ordered: Mapping[int, float]) -> dict[int, float]:
    """Weights in these proportions as far as the bounds allow, 1 on the average of the orders.

    Weights that are so already come back as they are.  Where nobody is wanted, or nobody has an
    order, all are alike.
    """
    total, highest = sum(ordered[one] for one in wanted), max(wanted.values())
    if total <= 0 or highest <= _NOTHING:
        return dict.fromkeys(wanted, 1.0)
    # Who is wanted for less has the floor in any case, and no scale makes it finite.
    least = _NEGLIGIBLE * highest
    parts = {one: max(part, least) for one, part in wanted.items()}

    def scaled(by: float) -> dict[int, float]:
        return {one: min(max(by * part, FLOOR), CEILING) for one, part in parts.items()}

    def excess(by: float) -> float:
        return sum(ordered[one] * weight for one, weight in scaled(by).items()) - total

    if abs(excess(1.0)) <= _EXACT * total:
        return scaled(1.0)
    low, high = 0.0, CEILING / min(parts.values())
    while high - low > _EXACT * high:
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return scaled(high)
