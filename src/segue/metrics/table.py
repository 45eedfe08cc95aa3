"""Every metric that there is: its kind, its labels, what it says, and when to worry.

The documentation has this table too, and a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.  The name of a counter is exposed with ``_total`` behind it."""

    name: str
    kind: Literal["gauge", "counter"]
    labels: tuple[str, ...]
    says: str
    worry: str = ""

    @property
    def exposed(self) -> str:
        """The name as Prometheus has it."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


_WORKER = ("generation", "worker")

METRICS = (
    Metric(
        "segue_up",
        "gauge",
        (),
        "1 if the supervisor answers.",
        "0: workers that die are not replaced",
    ),
    Metric(
        "segue_info",
        "gauge",
        ("name", "engine", "carry", "version"),
        "1; the labels say what the instance is, and by which engine it steers.",
    ),
    Metric("segue_phase", "gauge", ("phase",), "1 for the phase that the instance is in."),
    Metric(
        "segue_outage",
        "gauge",
        (),
        "1 while no worker serves, or some are missing since they do not start.",
        "1 for longer than a start takes",
    ),
    Metric(
        "segue_restart_failed",
        "gauge",
        (),
        "1 from a restart that failed to one that serves.",
        "1: the old version serves on",
    ),
    Metric(
        "segue_flip_seconds",
        "gauge",
        (),
        "From the moment when all newcomers were ready to the new shares, at the last restart.",
    ),
    Metric("segue_workers_wanted", "gauge", (), "How many workers are to serve."),
    Metric(
        "segue_workers",
        "gauge",
        ("generation", "stage"),
        "Workers by stage.",
        "draining for longer than --drain-timeout",
    ),
    Metric(
        "segue_worker_share_ratio",
        "gauge",
        _WORKER,
        "The part of new connections that goes to this worker.",
    ),
    Metric(
        "segue_worker_queued_connections",
        "gauge",
        _WORKER,
        "Connections that wait to be accepted.",
        "grows",
    ),
    Metric(
        "segue_worker_held_connections",
        "gauge",
        _WORKER,
        "Accepted connections. Missing where there are too many processes to look at.",
    ),
    Metric(
        "segue_worker_stalled_seconds",
        "gauge",
        _WORKER,
        "For how long it has accepted nothing while others could; 0 if it accepts.",
        "more than some seconds",
    ),
    Metric(
        "segue_worker_memory_bytes",
        "gauge",
        _WORKER,
        "Memory of its processes, with --max-rss.",
    ),
    Metric("segue_listeners", "gauge", ("address",), "Listeners at this address."),
    Metric(
        "segue_half_open_connections",
        "gauge",
        ("address",),
        "Handshakes under way at this address.",
    ),
    Metric(
        "segue_selections",
        "counter",
        ("address", "kind"),
        "Decisions which listener gets a connection. Each is of one kind: new (a SYN), request, "
        "child or fastopen (a connection that migrates, by its state), or hash (the kernel's own).",
        "hash rises: the program is missing",
    ),
    Metric(
        "segue_selections_cancelled",
        "counter",
        ("address",),
        "Decisions that refused a connection.",
    ),
    Metric(
        "segue_selections_fell_back",
        "counter",
        ("address",),
        "Decisions whose first choice was gone.",
    ),
    Metric(
        "segue_program_restored",
        "counter",
        ("address",),
        "How often the program had been removed, and was put back.",
        "rises: a worker removes it",
    ),
    Metric(
        "segue_connections",
        "counter",
        ("fate",),
        "Connections that were not just served, each with one fate: moved (from a listener's queue "
        "to a sibling's), carried and carried_unread (accepted ones, without and with a request "
        "that the worker had not read), carry_lost, cut (closed before they were finished).",
        "cut or carry_lost rises",
    ),
    Metric(
        "segue_rescued_connections",
        "counter",
        (),
        "Those of the moved connections that waited behind a stalled worker.",
    ),
    Metric(
        "segue_events",
        "counter",
        ("kind", "result"),
        "What segue history shows, since the supervisor was started.",
        "kind crash rises; result failed",
    ),
    Metric(
        "segue_log_lines_dropped",
        "counter",
        (),
        "Lines that no process read from the log.",
    ),
)
