"""Restarts drawn by chance: what waits where at the instant of each.

Pure but for the chance that it is given.  Every connection that arrived within the window before an
instant is drawn one by one, with its own arrival, round trip and accept delay; whether it is
half-open, queued or accepted at that instant follows from these.  The window is so long that
whatever came before it is accepted.  No more than a block of connections is held at once, besides
those that wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segue.plan.load import Load
from segue.plan.spread import Floats

Counts = NDArray[np.int64]
# Connections held at once: their arrays fit into a core's own cache.
BLOCK = 1 << 15


@dataclass(frozen=True, slots=True)
class Waiting:
    """Connections that wait at the instants: each belongs to a restart and to a worker.

    ``age_s`` is since its SYN, ``rest_s`` until its final ACK (half-open) or until it is accepted
    by a worker that does not stall (queued).
    """

    restart: Counts
    worker: Counts
    age_s: Floats
    rest_s: Floats

    def count(self, restarts: int) -> Counts:
        """How many there are at each restart."""
        return np.bincount(self.restart, minlength=restarts)

    def only(self, these: NDArray[np.bool_]) -> Waiting:
        """Some of them."""
        return Waiting(
            self.restart[these], self.worker[these], self.age_s[these], self.rest_s[these]
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """The instants of so many restarts.

    ``phase_s`` has, by restart and worker, where each worker is between two stalls.  ``late`` are
    clients whose SYN was dropped at a full queue, ``rates`` the rate of each restart, and
    ``simulated`` the connections that were drawn.
    """

    restarts: int
    half_open: Waiting
    queued: Waiting
    phase_s: Floats
    late: Counts
    rates: NDArray[np.float64]
    simulated: int


def drawn(load: Load, restarts: int, chance: np.random.Generator) -> Moment:
    """So many independent instants."""
    spread = 1 / load.burst**2 if load.burst else 0.0
    rates = load.rate * (
        chance.gamma(spread, 1 / spread, restarts) if spread else np.ones(restarts)
    )
    every = load.stall_every_s or 1.0
    phase = chance.random((restarts, load.workers), dtype=np.float32) * np.float32(every)
    half_open: list[Waiting] = []
    queued: list[Waiting] = []
    simulated = 0
    # What a look has seen of the queues replaces the delays that would have filled them.
    reach = 0.0 if load.depths else max(load.accept.longest_s, load.stall_s)
    for part, wait in load.lanes():
        window = wait + load.round_trip.longest_s + reach
        ends = np.cumsum(chance.poisson(rates * part * window))
        simulated += int(ends[-1])
        for number, age, rest in _alive(load, int(ends[-1]), window, wait, reach, chance):
            which = np.searchsorted(ends, number, side="right")
            waiting = Waiting(which, chance.integers(load.workers, size=which.size), age, rest)
            half_open.append(waiting.only(rest > 0))
            if reach:
                queued.append(_not_accepted(load, waiting.only(rest <= 0), phase, chance))
    if load.depths:
        queued = [_as_seen(load, restarts, chance)]
    full = _overflowed(load, _joined(half_open), _joined(queued), restarts)
    return Moment(restarts, full[0], full[1], phase, full[2], rates, simulated)


def stalled_s(load: Load, phase_s: Floats) -> Floats:
    """How much longer workers stall, by where they are between two stalls; 0: they do not."""
    rest: Floats = np.maximum(np.float32(load.stall_s) - phase_s, np.float32(0))
    return rest


def accepted_s(load: Load, phase_s: Floats, ready_s: Floats) -> Floats:
    """When a worker accepts what it would accept at ``ready_s`` if it never stalled."""
    if not load.stall_s:
        return ready_s
    then = np.mod(phase_s + ready_s, np.float32(load.stall_every_s)).astype(np.float32)
    return (ready_s + stalled_s(load, then)).astype(np.float32)


def _alive(
    load: Load, count: int, window: float, wait: float, reach: float, chance: np.random.Generator
) -> Iterator[tuple[Counts, Floats, Floats]]:
    """Of so many arrivals those which may wait still: their numbers, ages, and time to the ACK.

    The time is below 0 if the ACK came already.
    """
    for begin in range(0, count, BLOCK):
        size = min(BLOCK, count - begin)
        age = chance.random(size, dtype=np.float32)
        np.multiply(age, np.float32(window), out=age)
        rest = load.round_trip.draw(chance, size)
        if wait:
            np.add(rest, np.float32(wait), out=rest)
        np.subtract(rest, age, out=rest)
        alive = np.flatnonzero(rest > np.float32(-reach))
        yield alive + begin, age[alive], rest[alive]


def _not_accepted(
    load: Load, arrived: Waiting, phase: Floats, chance: np.random.Generator
) -> Waiting:
    """Of those that are in a queue or were, the ones that are."""
    since = -arrived.rest_s
    rest = load.accept.draw(chance, since.size) - since
    if load.stall_s:
        mine = phase[arrived.restart, arrived.worker]
        # The worker has stalled for so long, and would have accepted this one meanwhile.
        missed = (mine < load.stall_s) & (-rest < mine)
        rest = np.where(missed, np.maximum(rest, np.float32(1e-6)), rest)
    waiting = Waiting(arrived.restart, arrived.worker, arrived.age_s, rest)
    return waiting.only(rest > 0)


def _as_seen(load: Load, restarts: int, chance: np.random.Generator) -> Waiting:
    """The queue as one of the looks saw it, at each restart any of them."""
    seen = chance.choice(np.array(load.depths, dtype=np.int64), restarts)
    which = np.repeat(np.arange(restarts), seen)
    nothing = np.zeros(which.size, dtype=np.float32)
    rest = np.maximum(load.accept.draw_rest(chance, which.size), np.float32(1e-6))
    return Waiting(which, chance.integers(load.workers, size=which.size), nothing, rest)


def _joined(parts: list[Waiting]) -> Waiting:
    none = np.zeros(0, dtype=np.float32)
    parts = parts or [Waiting(np.zeros(0, np.int64), np.zeros(0, np.int64), none, none)]
    return Waiting(
        np.concatenate([one.restart for one in parts]),
        np.concatenate([one.worker for one in parts]),
        np.concatenate([one.age_s for one in parts]),
        np.concatenate([one.rest_s for one in parts]),
    )


def _overflowed(
    load: Load, half_open: Waiting, queued: Waiting, restarts: int
) -> tuple[Waiting, Waiting, Counts]:
    """The same with full queues: a backlog of N holds N + 1 (sk_acceptq_is_full).

    While a queue is full, a SYN is dropped, and comes again a second later.  Of a request that was
    half-open before, the final ACK is dropped, and it is half-open until its timer fires.
    """
    room = load.backlog + 1
    late = np.zeros(restarts, dtype=np.int64)
    queue = queued.restart * load.workers + queued.worker
    if load.depths or np.bincount(queue, minlength=1).max() <= room:
        return half_open, queued, late
    order = np.lexsort((-queued.age_s, queue))
    begin = np.searchsorted(queue[order], queue[order], side="left")
    over = np.zeros(queue.size, dtype=np.bool_)
    over[order] = np.arange(queue.size) - begin >= room
    # Full since the youngest that got in: how old that one is.
    full = np.zeros(restarts * load.workers, dtype=np.float32)
    last = order[np.arange(queue.size) - begin == load.backlog]
    full[queue[last]] = queued.age_s[last]
    theirs = half_open.restart * load.workers + half_open.worker
    dropped = half_open.age_s < full[theirs]
    beyond = queued.only(over)
    np.add.at(late, half_open.restart[dropped], 1)
    turned_away = beyond.age_s < full[queue[over]]
    np.add.at(late, beyond.restart[turned_away], 1)
    asked_again = beyond.only(~turned_away)
    timer = np.float32(1) - np.mod(asked_again.age_s, np.float32(1))
    stuck = Waiting(asked_again.restart, asked_again.worker, asked_again.age_s, timer)
    return _joined([half_open.only(~dropped), stuck]), queued.only(~over), late
