"""A status as metric families.  Pure: the same status gives the same families."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from segue.metrics.table import METRICS
from segue.supervisor.control.status import FrontStatus, Status, WorkerStatus

Family: TypeAlias = GaugeMetricFamily | CounterMetricFamily
Samples: TypeAlias = Mapping[tuple[str, ...], float]

# A program tells these kinds apart (segue.policy.counts), and each decision is of one of them.
_KINDS = ("new", "request", "child", "fastopen")


def families(status: Status | None, version: str) -> Iterator[Family]:
    """Every metric of the table for which there is a value; without a status only that it is so."""
    found: dict[str, Samples] = {"segue_up": {(): float(status is not None)}}
    if status is not None:
        found |= _samples(status, version)
    for metric in METRICS:
        kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family: Family = kind(metric.name, metric.says, labels=metric.labels)
        samples = found.pop(metric.name, {})
        for labels, value in sorted(samples.items()):
            family.add_metric(list(labels), value)
        if samples:
            yield family
    assert not found, f"these metrics are in no table: {', '.join(found)}"


def _samples(status: Status, version: str) -> dict[str, Samples]:
    """The values by metric and labels."""
    carried = status.carried - status.carried_unread
    fates = {
        "moved": status.moved,
        "carried": carried,
        "carried_unread": status.carried_unread,
        "carry_lost": status.carry_lost,
        "cut": status.cut,
    }
    stages = Counter((str(one.generation), one.stage) for one in status.workers)
    return {
        "segue_info": {(status.name, status.engine, status.carry, version): 1.0},
        "segue_phase": {(status.phase,): 1.0},
        "segue_outage": {(): float(bool(status.outage))},
        "segue_restart_failed": {(): float(bool(status.failure))},
        "segue_flip_seconds": {} if status.flip_ms is None else {(): status.flip_ms / 1000},
        "segue_workers_wanted": {(): float(status.size)},
        "segue_workers": {labels: float(count) for labels, count in stages.items()},
        "segue_connections": {(fate,): float(count) for fate, count in fates.items()},
        "segue_rescued_connections": {(): float(status.rescued)},
        "segue_events": {_event(name): float(count) for name, count in status.events.items()},
        "segue_log_lines_dropped": {(): float(status.unread)},
        **_of_workers(status.workers),
        **_of_fronts(status.fronts),
    }


def _of_workers(workers: Sequence[WorkerStatus]) -> dict[str, Samples]:
    named = {(str(one.generation), str(one.id)): one for one in workers}
    return {
        "segue_worker_share_ratio": {label: one.share / 100 for label, one in named.items()},
        "segue_worker_queued_connections": {
            label: float(one.queue) for label, one in named.items()
        },
        "segue_worker_held_connections": {
            label: float(one.connections)
            for label, one in named.items()
            if one.connections is not None
        },
        "segue_worker_stalled_seconds": {label: one.stalled or 0.0 for label, one in named.items()},
        "segue_worker_memory_bytes": {
            label: float(one.memory) for label, one in named.items() if one.memory
        },
    }


def _of_fronts(fronts: Sequence[FrontStatus]) -> dict[str, Samples]:
    counted = [one for one in fronts if one.counts]
    return {
        "segue_listeners": {(one.address,): float(one.listeners) for one in fronts},
        "segue_half_open_connections": {(one.address,): float(one.half_open) for one in fronts},
        "segue_selections": dict(_selections(fronts)),
        "segue_selections_cancelled": {
            (one.address,): float(one.counts.get("cancelled", 0)) for one in counted
        },
        "segue_selections_fell_back": {
            (one.address,): float(one.counts.get("fell_back", 0)) for one in counted
        },
        "segue_program_restored": {(one.address,): float(one.restored) for one in fronts},
    }


def _selections(fronts: Sequence[FrontStatus]) -> Iterator[tuple[tuple[str, ...], float]]:
    for one in fronts:
        yield (one.address, "hash"), float(one.by_hash)
        for kind in _KINDS if one.counts else ():
            yield (one.address, kind), float(one.counts.get(kind, 0))


def _event(name: str) -> tuple[str, str]:
    """The labels of an event that a status counts, such as ``restart served``."""
    kind, _, result = name.partition(" ")
    return kind, result
