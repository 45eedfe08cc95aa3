"""Every case, in the order in which they run and stand in RESULTS.md."""

from __future__ import annotations

from bench.case import Case
from bench.cases import certificate, kept, kill, restart, stall

CASES: tuple[Case, ...] = (
    restart.PACED,
    restart.SATURATED,
    restart.FAR_AWAY,
    kept.CASE,
    kill.CASE,
    stall.CASE,
    certificate.CASE,
)
