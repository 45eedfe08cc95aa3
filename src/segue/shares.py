"""Shares of new connections, as the table the program looks in.

``table[hash % SIZE]`` names a slot.  Newest generation only, canary by percent, weights by worker:
all are fillings of this one table, which is changed at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, repeat, zip_longest

from segue.errors import UsageError

# 4,096 entries give a share a grain of 0.024 %, finer than any canary; two copies are 32 KiB.
SIZE = 4096


def quotas(weights: Mapping[int, float], size: int = SIZE) -> dict[int, int]:
    """How many of ``size`` entries each slot gets: largest remainder, ties to the lower slot.

    Raises UsageError when a weight is negative or none is above zero.
    """
    if any(weight < 0 for weight in weights.values()):
        raise UsageError(f"a share cannot be negative: {dict(weights)}")
    total = sum(weights.values())
    if not total > 0:
        raise UsageError("at least one listener must have a share of new connections")
    exact = {slot: weight * size / total for slot, weight in weights.items()}
    given = {slot: int(share) for slot, share in exact.items()}
    left = size - sum(given.values())
    by_remainder = sorted(exact, key=lambda slot: (given[slot] - exact[slot], slot))
    for slot in by_remainder[:left]:
        given[slot] += 1
    return {slot: count for slot, count in given.items() if count}


def fill(weights: Mapping[int, float], before: Sequence[int] = ()) -> list[int]:
    """A table of SIZE slots with these shares, changing as few entries of ``before`` as can be.

    Keeping entries where they are keeps a client, whose hash does not change, with its worker
    when a share grows or shrinks.
    """
    wanted = quotas(weights)
    kept: list[int | None] = []
    # A whole generation going leaves nothing to keep, and is the flip that clients wait for.
    if len(before) == SIZE and not wanted.keys().isdisjoint(before):
        for slot in before:
            left = wanted.get(slot, 0)
            wanted[slot] = max(0, left - 1)
            kept.append(slot if left else None)
    dealt = _deal({slot: count for slot, count in sorted(wanted.items()) if count})
    if not kept:
        return list(dealt)
    return [next(dealt) if slot is None else slot for slot in kept]


def is_least_change(before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether no table with the shares of ``after`` keeps more entries of ``before``."""
    changed = sum(old != new for old, new in zip(before, after, strict=True))
    return changed == (Counter(before) - Counter(after)).total()


def _deal(counts: Mapping[int, int]) -> Iterator[int]:
    """Round robin, so that neighbouring hashes do not share a fate."""
    rounds = zip_longest(*(repeat(slot, count) for slot, count in counts.items()))
    return (slot for slot in chain.from_iterable(rounds) if slot is not None)


def newest_first(generations: Sequence[Sequence[int]], strength: int) -> dict[int, float]:
    """Weights by which the newest generation comes first, as far as it is strong enough.

    ``generations`` have their slots, oldest first.  There are ``strength`` seats, as many as
    listeners served before: each of the newest takes one, the generation before it shares what is
    left, and so on.  So a generation as strong as the one before it takes everything, and one
    worker of four that was started again takes a fourth, not everything.
    """
    weights: dict[int, float] = {}
    left = max(1, strength)
    for slots in reversed(generations):
        seats = min(len(slots), left)
        if seats:
            weights |= dict.fromkeys(slots, seats / len(slots))
        left -= seats
    return weights


def by_generation(
    generations: Sequence[Sequence[int]],
    strength: int,
    percent: float | None = None,
    factors: Mapping[int, float] = {},
    stalled: Collection[int] = frozenset(),
) -> dict[int, float]:
    """Weights of every slot that takes part, generations oldest first; some may be 0.

    Without ``percent`` the newest generation comes first, as far as its strength allows.  With it,
    the newest gets just that part of new connections, even 0, and the older ones share the rest,
    while there are any.  A slot's ``factors`` multiplies its weight; factors that would leave a
    generation without any share are ignored.  A ``stalled`` slot has the weight 0, and a generation
    whose slots all stall leaves its part to the others.  Where nobody else is left to have a share,
    stalls are ignored.
    """
    if percent is None or len(generations) < 2:
        weights = _multiplied(newest_first(generations, strength), factors, stalled)
    else:
        older = newest_first(generations[:-1], strength)
        newest = dict.fromkeys(generations[-1], 1.0)
        weights = {
            slot: weight
            for of, part in ((older, 100 - percent), (newest, percent))
            for slot, weight in _part(of, part, factors, stalled).items()
        }
    if stalled and not any(weights.values()):
        return by_generation(generations, strength, percent, factors)
    return weights


def _multiplied(
    weights: Mapping[int, float], factors: Mapping[int, float], stalled: Collection[int]
) -> dict[int, float]:
    awake = {slot: 0.0 if slot in stalled else weight for slot, weight in weights.items()}
    by_factor = {slot: weight * factors.get(slot, 1.0) for slot, weight in awake.items()}
    return by_factor if any(by_factor.values()) else awake


def _part(
    weights: Mapping[int, float],
    part: float,
    factors: Mapping[int, float],
    stalled: Collection[int],
) -> dict[int, float]:
    """The same proportions, of this sum; 0 each when all stall."""
    multiplied = _multiplied(weights, factors, stalled)
    total = sum(multiplied.values()) or 1.0
    return {slot: weight * part / total for slot, weight in multiplied.items()}
