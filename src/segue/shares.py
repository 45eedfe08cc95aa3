"""Shares of new connections, as the table the program looks in.

``table[hash % SIZE]`` names a slot.  Newest generation only, canary by percent, weights by worker:
all are fillings of this table (DESIGN: one table, flipped at once).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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


def _deal(counts: Mapping[int, int]) -> Iterator[int]:
    """Round robin, so that neighbouring hashes do not share a fate."""
    rounds = zip_longest(*(repeat(slot, count) for slot, count in counts.items()))
    return (slot for slot in chain.from_iterable(rounds) if slot is not None)


def canary(old: Sequence[int], new: Sequence[int], percent: float) -> dict[int, float]:
    """Weights that give the new slots ``percent`` of new connections between them.

    Raises UsageError unless 0 < percent <= 100.
    """
    if not 0 < percent <= 100:
        raise UsageError(f"a canary's share is above 0 and at most 100 percent, not {percent:g}")
    weights = {slot: percent / len(new) for slot in new}
    if old and percent < 100:
        weights |= {slot: (100 - percent) / len(old) for slot in old}
    return weights
