"""Every case, in the order in which they run and stand in RESULTS.md."""

from __future__ import annotations

from bench.case import Case
from bench.cases import (
    attach,
    back_to_back,
    balance,
    canary,
    certificate,
    crash,
    cycles,
    flip,
    idle,
    kept,
    kill,
    link,
    matrix,
    program_cost,
    queue,
    rescue,
    restart,
    soak,
    stall,
    wrk,
)

CASES: tuple[Case, ...] = (
    restart.PACED,
    restart.SATURATED,
    restart.FAR_AWAY,
    kept.CASE,
    kill.CASE,
    crash.CASE,
    stall.CASE,
    rescue.CASE,
    balance.CASE,
    certificate.CASE,
    back_to_back.CASE,
    program_cost.CASE,
    queue.CASE,
    cycles.CASE,
    matrix.CASE,
    soak.CASE,
    flip.CASE,
    idle.CASE,
    link.CASE,
    wrk.CASE,
    attach.CASE,
    canary.CASE,
)
