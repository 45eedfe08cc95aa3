"""Every case, in the order in which they run and stand in RESULTS.md."""

from __future__ import annotations

from bench.case import Case
from bench.cases import restart

CASES: tuple[Case, ...] = (restart.PACED, restart.SATURATED, restart.FAR_AWAY)
