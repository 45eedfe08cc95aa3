"""What becomes of the connections of a moment by each way to empty a listener.  Pure.

Time 0 is when the successors are ready.  All workers of the old generation leave then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segue.lab.ways.known import WAYS as KNOWN
from segue.lab.ways.leaving import Steering
from segue.lab.ways.leaving import Way as KnownWay
from segue.plan.load import Limits, Load
from segue.plan.moment import Counts, Moment, Waiting, accepted_s, stalled_s
from segue.plan.spread import Floats

FIELDS = (
    "lost_half_open", "lost_queued", "lost_accepted", "reconnected", "late", "listener_gone_s",
    "configuration_gone_s", "depth",
)  # fmt: skip
Outcomes = NDArray[np.float64]  # by field and restart
_LEAST_TIMEOUT_S = 0.2  # of a client's request beyond the round trip (TCP_RTO_MIN)


@dataclass(frozen=True, slots=True)
class Scene:
    """A moment with what every way needs of it, worked out once.

    ``open_done_s`` and ``queue_done_s`` say when the old worker would have accepted a half-open
    or a queued connection, and ``open_answer_s`` and ``queue_answer_s`` how long it would serve it.
    ``hand_s``: when the last worker of a restart can act by itself.  ``unaccepted``: children that
    came while the old workers had stopped accepting and not closed yet.
    """

    load: Load
    limits: Limits
    moment: Moment
    open_done_s: Floats
    queue_done_s: Floats
    open_answer_s: Floats
    queue_answer_s: Floats
    hand_s: Floats
    unaccepted: Counts
    depth: Counts
    depth_migrated: Counts


@dataclass(frozen=True, slots=True)
class Leaves:
    """What the listeners of a restart leave behind, by restart; how deep the targets' queues get.

    ``served_s``: when the old workers have served what they still accepted.
    """

    half_open: Counts
    queued: Counts
    gone_s: Floats
    served_s: Floats
    depth: Counts
    late: Counts


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways that ``segue lab compare`` does, and what its listeners leave behind."""

    known: KnownWay
    leaves: Callable[[Scene, np.random.Generator], Leaves]

    @property
    def name(self) -> str:
        """In every table."""
        return self.known.name

    @property
    def steers(self) -> bool:
        """The successors get nothing before the old listeners go."""
        return self.known.inherits or self.known.steering is not Steering.HASH


def scenes(
    load: Load, limits: Limits, moment: Moment, chance: np.random.Generator
) -> tuple[Scene, Scene]:
    """The moment worked out for ways that do not steer, and for those that do.

    Without steering the hash gives part of the connections to the successors already.
    """
    hashed = replace(
        moment,
        half_open=_at_the_old(moment.half_open, limits, chance),
        queued=_at_the_old(moment.queued, limits, chance),
    )
    # Of a server that has its successors beside it; steering lets no SYN come to it by then.
    came = moment.rates * (1 - limits.beside) * _would_be_accepted_s(load)
    none = np.zeros(moment.restarts, dtype=np.int64)
    return (
        _scene(load, limits, hashed, chance.poisson(came), chance),
        _scene(load, limits, moment, none, chance),
    )


def _would_be_accepted_s(load: Load) -> float:
    """E[(c - accept delay)+] of the time c until a close: Little's law for what only that keeps.

    Independent of what is queued anyhow, since both are parts of one Poisson stream.
    """
    if not load.closes_after_s:
        return 0.0
    delays = load.accept.draw(np.random.Generator(np.random.SFC64(0)), 10_000)
    return float(np.maximum(load.closes_after_s - delays.astype(np.float64), 0.0).mean())


def _at_the_old(waiting: Waiting, limits: Limits, chance: np.random.Generator) -> Waiting:
    return waiting.only(chance.random(waiting.restart.size) >= limits.beside)


def _scene(
    load: Load, limits: Limits, moment: Moment, unaccepted: Counts, chance: np.random.Generator
) -> Scene:
    half_open, queued = moment.half_open, moment.queued
    accept = load.accept.draw(chance, half_open.rest_s.size)
    phase = moment.phase_s
    own, migrated = _depths(load, moment, unaccepted, chance)
    return Scene(
        load, limits, moment,
        accepted_s(load, phase[half_open.restart, half_open.worker], half_open.rest_s + accept),
        accepted_s(load, phase[queued.restart, queued.worker], queued.rest_s),
        load.answer.draw(chance, half_open.rest_s.size),
        load.answer.draw(chance, queued.rest_s.size),
        stalled_s(load, phase).max(axis=1),
        unaccepted,
        own,
        migrated,
    )  # fmt: skip


def _depths(
    load: Load, moment: Moment, unaccepted: Counts, chance: np.random.Generator
) -> tuple[Counts, Counts]:
    """The deepest queue among the targets: as they are, and with the children that migrate.

    A child migrates to any of the targets, whatever is in its queue (FACTS, backlog).  What
    the targets have of their own is what the listeners of the next moment have: as likely, and
    independent.
    """
    queued, workers = moment.queued, load.workers
    shape = (moment.restarts, workers)
    own = np.bincount(
        queued.restart * workers + queued.worker, minlength=moment.restarts * workers
    ).reshape(shape)
    own = np.roll(own, 1, axis=0)
    target = queued.restart * workers + chance.integers(workers, size=queued.restart.size)
    come = np.bincount(target, minlength=moment.restarts * workers).reshape(shape)
    come += chance.multinomial(unaccepted, np.full(workers, 1 / workers))
    return own.max(axis=1), (own + come).max(axis=1)


def _latest(restart: Counts, times: Floats, restarts: int) -> Floats:
    found = np.zeros(restarts, dtype=np.float32)
    np.maximum.at(found, restart, times)
    return found


def _count(waiting: Waiting, these: NDArray[np.bool_], restarts: int) -> Counts:
    return np.bincount(waiting.restart[these], minlength=restarts)


def _left(
    seen: Scene,
    *,
    half_open: Counts | None = None,
    queued: Counts | None = None,
    gone_s: Floats | None = None,
    served_s: Floats | None = None,
    depth: Counts | None = None,
    late: Counts | None = None,
) -> Leaves:
    """Nothing is left, at once, but what is given."""
    none = np.zeros(seen.moment.restarts, dtype=np.int64)
    at_once = np.zeros(seen.moment.restarts, dtype=np.float32)
    return Leaves(
        none if half_open is None else half_open,
        none if queued is None else queued,
        at_once if gone_s is None else gone_s,
        at_once if served_s is None else served_s,
        seen.depth if depth is None else depth,
        none if late is None else late,
    )


def _close(seen: Scene, _: np.random.Generator) -> Leaves:
    moment = seen.moment
    return _left(
        seen,
        half_open=moment.half_open.count(moment.restarts),
        queued=moment.queued.count(moment.restarts) + seen.unaccepted,
    )


def _backlog_zero(seen: Scene, chance: np.random.Generator) -> Leaves:
    """A queue has one place, and a final ACK that finds it taken is dropped.

    Its client's request ends the handshake as well, whenever it comes again: after the timeout of
    the client, and two of these later.  The SYN-ACK comes again a second after the SYN.  What has
    not got in by the guard time is lost.  SYNs that come meanwhile get cookies, which any
    listener takes.  Clients whose SYN is dropped, half of them at the successors, ask again after a
    second.
    """
    moment, guard = seen.moment, np.float32(seen.limits.guard_s)
    waiting = moment.half_open
    taken = seen.queue_done_s <= guard
    trip = waiting.age_s + waiting.rest_s
    again = trip + np.maximum(2 * trip, np.float32(_LEAST_TIMEOUT_S))
    told_again = 1 - np.mod(waiting.age_s, np.float32(1)) + trip
    tries = np.stack([waiting.rest_s, waiting.rest_s + again, waiting.rest_s + 3 * again])
    tries = np.concatenate([tries, told_again[np.newaxis]])
    phase = moment.phase_s[waiting.restart, waiting.worker]
    full = _place_taken(seen.load)
    got_in = (tries <= guard) & (accepted_s(seen.load, phase, tries) <= tries)
    got_in &= chance.random(tries.shape, dtype=np.float32) >= full
    opened: NDArray[np.bool_] = np.logical_or.reduce(got_in)
    delayed = opened & ~got_in[0]
    turned_away = chance.poisson(moment.rates * seen.limits.guard_s * full / 2)
    return _left(
        seen,
        half_open=_count(waiting, ~opened, moment.restarts),
        queued=_count(moment.queued, ~taken, moment.restarts),
        gone_s=np.full(moment.restarts, guard),
        served_s=_served(seen, opened, taken),
        late=_count(waiting, delayed, moment.restarts) + turned_away,
    )


def _place_taken(load: Load) -> float:
    """How often the one place of a queue is taken: Erlang's formula for one place."""
    waits = sum(load.depths) / len(load.depths) if load.depths else load.rate * load.accept.mean_s
    offered = waits / load.workers
    return offered / (1 + offered)


def _served(seen: Scene, opened: NDArray[np.bool_], queued: NDArray[np.bool_]) -> Floats:
    """When the last answer ends of those that old workers accept after the flip."""
    moment = seen.moment
    by_open = (seen.open_done_s + seen.open_answer_s)[opened]
    by_queue = (seen.queue_done_s + seen.queue_answer_s)[queued]
    return np.maximum(
        _latest(moment.half_open.restart[opened], by_open, moment.restarts),
        _latest(moment.queued.restart[queued], by_queue, moment.restarts),
    )


def _drained(seen: Scene, wait_s: float, *, at_least_s: float, look_s: float) -> Leaves:
    """It accepts what completes within ``wait_s``, and closes when it has that, or at the limit.

    A worker that stalls accepts when it can.
    """
    moment, limit = seen.moment, np.float32(seen.limits.limit_s)
    came = moment.half_open.rest_s <= min(wait_s, seen.limits.limit_s)
    taken, queue_taken = came & (seen.open_done_s <= limit), seen.queue_done_s <= limit
    done = np.maximum(
        _latest(moment.half_open.restart[came], seen.open_done_s[came], moment.restarts),
        _latest(moment.queued.restart, seen.queue_done_s, moment.restarts),
    )
    # One that never comes is waited for as well, by a way that does not guess.
    waited = ~came & (wait_s >= seen.limits.limit_s)
    done = np.maximum(
        done, _latest(moment.half_open.restart[waited], moment.half_open.rest_s[waited],
                      moment.restarts)
    )  # fmt: skip
    if look_s:
        done = (np.ceil(done / np.float32(look_s)) * np.float32(look_s)).astype(np.float32)
    return _left(
        seen,
        half_open=_count(moment.half_open, ~came, moment.restarts),
        queued=_count(moment.queued, ~queue_taken, moment.restarts)
        + _count(moment.half_open, came & ~taken, moment.restarts),
        gone_s=np.minimum(np.maximum(done, np.float32(at_least_s)), limit),
        served_s=_served(seen, taken, queue_taken),
    )


def _drain(seen: Scene, _: np.random.Generator) -> Leaves:
    guard = seen.limits.guard_s
    return _drained(seen, guard, at_least_s=guard, look_s=0.0)


def _drain_counted(seen: Scene, _: np.random.Generator) -> Leaves:
    return _drained(seen, seen.limits.limit_s, at_least_s=0.0, look_s=0.0)


def _drain_observed(seen: Scene, _: np.random.Generator) -> Leaves:
    return _drained(seen, seen.limits.limit_s, at_least_s=0.0, look_s=seen.limits.look_s)


def _handed(seen: Scene, half_open: Counts | None) -> Leaves:
    """The last worker has passed on what it accepts, but for what it cannot within the limit."""
    moment, limit = seen.moment, np.float32(seen.limits.limit_s)
    phase = moment.phase_s[moment.queued.restart, moment.queued.worker]
    stuck = _count(moment.queued, stalled_s(seen.load, phase) > limit, moment.restarts)
    return _left(
        seen, half_open=half_open, queued=stuck, gone_s=np.minimum(seen.hand_s, limit)
    )  # fmt: skip


def _handoff(seen: Scene, _: np.random.Generator) -> Leaves:
    return _handed(seen, seen.moment.half_open.count(seen.moment.restarts))


def _cookies(seen: Scene, _: np.random.Generator) -> Leaves:
    return _handed(seen, None)


def _migrate(seen: Scene, _: np.random.Generator) -> Leaves:
    return _left(seen, depth=seen.depth_migrated)


def _inherit(seen: Scene, _: np.random.Generator) -> Leaves:
    return _left(seen)


_LEAVES = {
    "close": _close,
    "backlog-zero": _backlog_zero,
    "drain": _drain,
    "drain-counted": _drain_counted,
    "drain-observed": _drain_observed,
    "handoff": _handoff,
    "cookies": _cookies,
    "migrate-hash": _migrate,
    "migrate-policy": _migrate,
    "inherit": _inherit,
    "carry": _migrate,
}
WAYS = tuple(Way(known, _LEAVES[name]) for name, known in KNOWN.items())


@dataclass(frozen=True, slots=True)
class Accepted:
    """Connections that workers have accepted, by restart.

    ``idle`` are kept ones between two requests, and ``lost`` those of them whose client does not
    get away from a close with a new connection.  ``served`` are those that are not kept, and
    ``kept`` the kept ones that wait for an answer: the restart of each, and the rest of the answer.
    """

    idle: Counts
    lost: Counts
    served: tuple[Counts, Floats]
    kept: tuple[Counts, Floats]


def accepted(load: Load, moment: Moment, chance: np.random.Generator) -> Accepted:
    """A worker that is told to stop closes what is idle, and finishes what is not."""
    every = np.arange(moment.restarts)
    busy = chance.binomial(load.kept, load.busy, moment.restarts)
    idle = load.kept - busy
    lost = chance.binomial(idle, load.careless + (1 - load.careless) * _crossing(load))
    alone = chance.poisson(moment.rates * load.answer.mean_s)
    served, kept = np.repeat(every, alone), np.repeat(every, busy)
    return Accepted(
        idle, lost,
        (served, load.answer.draw_rest(chance, served.size)),
        (kept, load.answer.draw_rest(chance, kept.size)),
    )  # fmt: skip


def _crossing(load: Load) -> float:
    """How likely a request crosses the close: it is sent within the round trip around it.

    The mean of 1 - exp(-RTT / think) over round trips, by ten thousand draws that never change.
    """
    trips = load.round_trip.draw(np.random.Generator(np.random.SFC64(0)), 10_000)
    return float(-np.expm1(-trips.astype(np.float64) / load.think_s).mean())


def outcomes(way: Way, seen: Scene, theirs: Accepted, chance: np.random.Generator) -> Outcomes:
    """What becomes of every restart of the moment, by this way: a row for each of FIELDS."""
    moment, limit = seen.moment, seen.limits.limit_s
    leaves = way.leaves(seen, chance)
    served_by, served_s = theirs.served
    kept_by, kept_s = theirs.kept
    # A worker is told to stop when its listener is gone; kept connections end after that.
    kept_end = leaves.gone_s[kept_by] + kept_s
    ends = np.maximum(
        _latest(served_by, served_s, moment.restarts), _latest(kept_by, kept_end, moment.restarts)
    )
    cut = np.bincount(served_by[served_s > limit], minlength=moment.restarts)
    cut += np.bincount(kept_by[kept_end > limit], minlength=moment.restarts)
    ends = np.maximum(ends, np.maximum(leaves.gone_s, leaves.served_s))
    gone = np.minimum(ends, np.float32(limit))
    lost = cut if way.known.carries else cut + theirs.lost
    again = np.zeros_like(cut) if way.known.carries else theirs.idle - theirs.lost
    return np.stack([
        leaves.half_open, leaves.queued, lost, again, moment.late + leaves.late,
        leaves.gone_s, gone, leaves.depth,
    ]).astype(np.float64)  # fmt: skip
