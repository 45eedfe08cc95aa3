"""A run as a table, or several side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from segue.probe.fates import Fate
from segue.probe.result import Result


def table(results: Sequence[tuple[str, Result]], *, title: str | None = None) -> Table:
    """One row a named run; a column for each way of losing that occurs in one of them.

    The caption says what a reader must know to trust the numbers: attempts that this machine
    could not make or made late.
    """
    found = {fate for _, result in results for fate, count in result.counts.items() if count}
    kinds = [fate for fate in Fate if fate.lost and fate in found]
    kept = any(result.count(Fate.IDLE_CLOSED) for _, result in results)
    made = Table(title=title, caption=caption(results), caption_justify="left")
    made.add_column("")
    for head in ("connections", "lost", *(fate.value.replace("_", " ") for fate in kinds)):
        made.add_column(head, justify="right")
    if kept:
        made.add_column("idle closed", justify="right")
    for head in ("p50 ms", "p99 ms", "max ms", "longest gap ms"):
        made.add_column(head, justify="right")
    for name, result in results:
        cells = [f"{result.total:,}", f"{result.lost:,}"]
        cells += [_count(result, fate) for fate in kinds]
        if kept:
            cells.append(_count(result, Fate.IDLE_CLOSED))
        cells += [
            _ms(value) for value in (result.p50_ms, result.p99_ms, result.max_ms, result.gap_ms)
        ]
        made.add_row(name, *cells, style="red" if result.lost else None)
    return made


def caption(results: Sequence[tuple[str, Result]]) -> str | None:
    """What limits the numbers, one line each; None when nothing does."""
    return "\n".join(line for name, result in results for line in _limits(name, result)) or None


def _limits(name: str, result: Result) -> Iterator[str]:
    where = f"{name}: " if name else ""
    for fate in (Fate.PORTS_EXHAUSTED, Fate.LOCAL_ERROR):
        if result.count(fate):
            yield f"{where}{result.count(fate):,} not made: {fate.meaning}"
    if result.repeated:
        yield (
            f"{where}{result.repeated:,} pipelined requests went again on another connection, as"
            " the server had said that it would not process them, or had none of their bytes"
        )
    if result.held_back:
        yield f"{where}{result.held_back:,} waited, as all the connections allowed were open"
    if result.unbegun:
        yield f"{where}{result.unbegun:,} were due and never begun ({result.rate:,.0f}/s reached)"
    late, median = result.late_ms, result.p50_ms
    if late is not None and median is not None and late > max(1.0, median):
        yield (
            f"{where}this machine was busy: 1 % were begun {late:.1f} ms late or more, which counts"
            f" as latency ({result.rate:,.0f}/s reached)"
        )


def _count(result: Result, fate: Fate) -> str:
    return f"{result.count(fate):,}"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"
