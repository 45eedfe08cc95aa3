"""The times and counts that the plan goes by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Counts, and times in seconds.  settings.py has the reason for each default."""

    ready_timeout: float = 60.0
    idle_grace: float = 1.0
    drain_timeout: float = 30.0
    stop_timeout: float = 10.0
    stop_delay: float = 0.0  # workers serve on for so long once the instance is to stop
    stop_limit: float = 0.0  # for the whole of the instance's stop; 0 for none
    start_retry: float = 0.0
    crash_limit: int = 0  # 0 for never
    crash_window: float = 60.0
    respawn: bool = True
    stall_kill: float = 0.0  # 0 means never
    live_every: float = 10.0
    live_failures: int = 3  # in a row, until the worker is replaced
    # A worker that reaches one of these is recycled; 0 means never.
    max_lifetime: float = 0.0
    max_rss: int = 0  # bytes
    max_connections: int = 0
