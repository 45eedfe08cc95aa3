"""The load of a live group: looks at its queues, its connections and the kernel's counters."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from segue.address import Address
from segue.errors import UsageError
from segue.group import Connection, Group
from segue.linux import snmp
from segue.linux.inet_diag import State
from segue.observe.snapshot import Observer, Part
from segue.plan.load import Load
from segue.plan.spread import Lognormal, Quantiles, Spread, quantiles

# A look at half-open requests and queues is some tenths of a millisecond: less than 2 % of a core.
_EVERY_S = 0.04
# A look at every connection may be some milliseconds of each second.
_CONNECTIONS_EVERY_S = 1.0
_PASSIVE = "Tcp.PassiveOpens"  # connections that came to any listener of the network namespace
# Fewer requests than these do not tell how long a handshake takes.
_SEEN_ENOUGH = 10
# What a lone look sees of round trips is a smoothed mean of each connection (tcpi_rtt).
_PARTS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
_LONG_TAIL = Lognormal(1.0, 0.6)  # the shape of what is known by its mean only


@dataclass(slots=True)
class Looks:
    """What was seen, look by look.

    ``half_open`` and ``depths`` are of all listeners together.  ``kept`` and ``busy`` are accepted
    connections, ``kept`` those that were there at the look before.  ``idle_s`` says how long such
    were idle, ``round_trips_s`` is tcp_info's, once for each connection.
    """

    seconds: float = 0.0
    opened: int = 0
    half_open: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    busy: list[int] = field(default_factory=list)
    idle_s: list[float] = field(default_factory=list)
    round_trips_s: dict[int, float] = field(default_factory=dict)
    workers: int = 1
    backlog: int = 0
    others: int = 0  # listeners at other addresses, whose connections are counted too


def look(
    observer: Observer, address: Address, seconds: float, told: Callable[[float], None]
) -> Looks:
    """Watch the group for so long.  ``told`` hears how many seconds are over.

    Raises UsageError if nobody listens there, and KernelError.
    """
    seen = Looks()
    first = observer.snapshot(address)
    if not first.listeners:
        raise UsageError(f"no process listens at {address}: there is no group to look at")
    seen.others = sum(where != address for _, _, where, _ in observer.everywhere())
    seen.workers = len(first.listeners)
    seen.backlog = min(one.backlog for one in first.listeners)
    before: frozenset[int] = frozenset()
    begun = time.monotonic()
    opened = snmp.read().get(_PASSIVE, 0)
    again = begun
    while (now := time.monotonic()) < begun + seconds:
        if now >= again:
            again = now + _CONNECTIONS_EVERY_S
            group = observer.snapshot(address, Part.REQUESTS, Part.CONNECTIONS)
            before = _connections(seen, group, before)
            _round_trips(seen, observer, address, {one.cookie for one in group.connections})
            told(now - begun)
        else:
            group = observer.snapshot(address, Part.REQUESTS)
        seen.half_open.append(len(group.requests))
        seen.depths.append(sum(one.queue for one in group.listeners))
        time.sleep(max(0.0, min(now + _EVERY_S, begun + seconds) - time.monotonic()))
    seen.seconds = time.monotonic() - begun
    seen.opened = snmp.read().get(_PASSIVE, 0) - opened
    return seen


def _connections(seen: Looks, group: Group, before: frozenset[int]) -> frozenset[int]:
    """Count those that are accepted; the cookies of all, for the next look."""
    theirs: list[Connection] = [one for one in group.connections if one.accepted]
    old = [one for one in theirs if one.cookie in before]
    if before or not theirs:
        seen.kept.append(len(old))
        seen.busy.append(sum(one.idle_ms is None for one in theirs))
    seen.idle_s += [one.idle_ms / 1000 for one in old if one.idle_ms is not None]
    return frozenset(one.cookie for one in theirs)


def _round_trips(seen: Looks, observer: Observer, address: Address, theirs: set[int]) -> None:
    found = observer.diag.dump(
        [State.ESTABLISHED], family=address.family, sport=address.port, info=True
    )
    for one in found:
        if one.cookie in theirs and one.info is not None and one.info.rtt_us:
            seen.round_trips_s[one.cookie] = one.info.rtt_us / 1e6


def as_load(seen: Looks, rate: float | None = None) -> Load:
    """The load that the looks are evidence of.  Raises UsageError when there are none.

    ``rate``, if given, is believed instead of the counter.  The handshake's mean is by Little's law
    what was half-open, over the rate, so it has in it whatever the handshakes really waited for;
    its shape is tcp_info's.  The burst is what the counts of half-open requests differ by
    beyond chance, and what the looks leave unsure of their mean.
    """
    if not seen.half_open or not seen.seconds:
        raise UsageError("nothing was seen: look for longer")
    rate = seen.opened / seen.seconds if rate is None else rate
    half_open = sum(seen.half_open) / len(seen.half_open)
    shape = _trips(list(seen.round_trips_s.values()))
    told = sum(seen.half_open) >= _SEEN_ENOUGH and rate > 0
    handshake = half_open / rate if told else shape.mean_s if shape else 0.0
    depth = sum(seen.depths) / len(seen.depths)
    kept = round(sum(seen.kept) / len(seen.kept)) if seen.kept else 0
    busy = sum(seen.busy) / len(seen.busy) if seen.busy else 0.0
    think = max(0.001, sum(seen.idle_s) / len(seen.idle_s)) if seen.idle_s else 5.0
    requests = rate + kept / think
    answer = busy / requests if requests else 0.0
    return Load(
        rate=rate,
        round_trip=_scaled(shape, handshake),
        accept=_scaled(None, depth / rate if rate else 0.0),
        answer=_scaled(None, answer),
        kept=kept,
        think_s=think,
        workers=seen.workers,
        backlog=seen.backlog,
        burst=_burst(seen, rate),
        depths=tuple(seen.depths),
    )


def _trips(times: list[float]) -> Quantiles | None:
    if not times:
        return None
    ordered = sorted(times)
    last = len(ordered) - 1
    return quantiles([(part, ordered[round(part * last)]) for part in _PARTS])


def _scaled(shape: Quantiles | None, mean_s: float) -> Spread:
    """The same shape with another mean; lognormal where there is no shape."""
    if shape is None or not shape.mean_s:
        return Lognormal(mean_s / _LONG_TAIL.mean_s, _LONG_TAIL.sigma)
    by = mean_s / shape.mean_s
    return Quantiles(shape.parts, tuple(by * one for one in shape.times_s))


def _burst(seen: Looks, rate: float) -> float:
    counts = seen.half_open
    mean = sum(counts) / len(counts)
    beyond = 0.0
    if mean > 0:
        variance = sum((one - mean) ** 2 for one in counts) / len(counts)
        beyond = max(0.0, variance - mean) / mean**2
    unsure = 1 / (rate * seen.seconds) if rate else 0.0
    return float((beyond + unsure) ** 0.5)
