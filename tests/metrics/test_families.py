"""Metrics as values: each in the table, and each connection and decision in exactly one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from segue.metrics.families import families
from segue.metrics.serving import registry
from segue.metrics.table import METRICS
from segue.supervisor.control.status import FrontStatus, Status, WorkerStatus

DOCS = Path(__file__).parent.parent.parent / "docs" / "METRICS.md"
STATUS = Status(
    name="t", pid=70, phase="serving", engine="migrate", working=2, newcomer=None, size=2,
    moved=4, rescued=3, carried=30, carried_unread=2, carry_lost=1, cut=5, unread=6, flip_ms=0.5,
    failure="the restart failed", events={"crash": 2, "restart served": 7}, carry="app",
    workers=(
        WorkerStatus(generation=2, id=3, pid=7, stage="serving", age=1.0, share=25.0, queue=4,
                     connections=9, stalled=0.25, memory=1 << 20),
        WorkerStatus(generation=1, id=1, pid=6, stage="draining", age=1.0, share=0.0,
                     connections=None),
    ),
    fronts=(
        FrontStatus(name="web", address="127.0.0.1:8080", listeners=3, half_open=2, by_hash=8,
                    counts={"new": 100, "request": 5, "child": 6, "fastopen": 1, "cancelled": 2,
                            "fell_back": 3}, restored=1),
    ),
)  # fmt: skip


def samples(status: Status | None) -> dict[tuple[str, frozenset[str]], float]:
    """As a scraper reads them: by name and the values of their labels."""
    text = generate_latest(registry(lambda: families(status, "1.2"))).decode()
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(name: str, *labels: str, status: Status | None = STATUS) -> float:
    return samples(status)[name, frozenset(labels)]


def test_each_value_of_a_status_is_exposed() -> None:
    """In base units, and by slot and generation, never by pid."""
    assert value("segue_up") == 1
    assert value("segue_info", "t", "migrate", "app", "1.2") == 1
    assert value("segue_phase", "serving") == 1
    assert value("segue_workers", "1", "draining") == 1
    assert value("segue_worker_share_ratio", "2", "3") == 0.25
    assert value("segue_worker_stalled_seconds", "2", "3") == 0.25
    assert value("segue_worker_memory_bytes", "2", "3") == 1 << 20
    assert value("segue_flip_seconds") == 0.0005
    assert value("segue_restart_failed") == 1
    assert value("segue_events_total", "restart", "served") == 7
    assert value("segue_events_total", "crash", "") == 2
    assert value("segue_program_restored_total", "127.0.0.1:8080") == 1


def test_what_is_not_known_is_missing() -> None:
    """A zero would say that there is none."""
    known = samples(STATUS)
    assert ("segue_worker_held_connections", frozenset({"2", "3"})) in known
    assert ("segue_worker_held_connections", frozenset({"1"})) not in known
    assert {name for name, _ in samples(None)} == {"segue_up"}
    assert value("segue_up", status=None) == 0


def test_counters_add_up() -> None:
    """Each connection has one fate, and each decision is of one kind."""
    fates = {
        next(iter(labels)): count
        for (name, labels), count in samples(STATUS).items()
        if name == "segue_connections_total"
    }
    assert fates == {"moved": 4, "carried": 28, "carried_unread": 2, "carry_lost": 1, "cut": 5}
    kinds = [
        count for (name, _), count in samples(STATUS).items() if name == "segue_selections_total"
    ]
    assert sum(kinds) == 100 + 5 + 6 + 1 + 8


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_as_the_field_does_and_is_in_the_docs(metric: object) -> None:
    """Lower case, its unit last, and one row in the table of the documentation."""
    one = next(it for it in METRICS if it is metric)
    assert re.fullmatch(r"segue_[a-z_]+", one.name)
    assert not one.name.endswith("_total")
    labels = ", ".join(f"`{label}`" for label in one.labels)
    says = one.says.rstrip(".")
    assert f"| `{one.exposed}` | {labels} | {says} | {one.worry} |" in DOCS.read_text()


def test_every_metric_has_a_value_somewhere() -> None:
    """A row of the table that nothing fills would promise too much."""
    found = {family.name for family in families(STATUS, "1")}
    assert found == {one.name for one in METRICS}
