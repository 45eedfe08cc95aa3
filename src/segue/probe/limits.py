"""What a reader must know to trust the numbers of a run."""

from __future__ import annotations

from collections.abc import Iterator

from segue.probe.fates import Fate
from segue.probe.result import Result


def sentences(result: Result) -> Iterator[str]:
    """One for each that there is: what this machine could not make, or made late."""
    for fate in (Fate.PORTS_EXHAUSTED, Fate.LOCAL_ERROR):
        if result.count(fate):
            yield f"{result.count(fate):,} not made: {fate.meaning}"
    if result.repeated:
        yield (
            f"{result.repeated:,} pipelined requests went again on another connection, as"
            " the server had said that it would not process them, or had none of their bytes"
        )
    if result.held_back:
        yield f"{result.held_back:,} waited, as all the connections allowed were open"
    if result.unbegun:
        yield f"{result.unbegun:,} were due and never begun ({result.rate:,.0f}/s reached)"
    late, median = result.late_ms, result.p50_ms
    if late is not None and median is not None and late > max(1.0, median):
        yield (
            f"this machine was busy: 1 % were begun {late:.1f} ms late or more, which counts"
            f" as latency ({result.rate:,.0f}/s reached)"
        )
