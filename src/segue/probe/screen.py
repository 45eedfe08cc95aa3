"""A report for a terminal: the verdict, the tables, and a small timeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segue.probe.fates import Fate
from segue.probe.instance_report import InstanceReport
from segue.probe.kernel import Kernel, meaning
from segue.probe.limits import sentences
from segue.probe.result import Result
from segue.probe.session import Progress, Report
from segue.probe.timeline import Slice, Span, Timeline
from segue.visible import visible

BARS = " ▁▂▃▄▅▆▇█"
COLUMNS = 60
# What stands left and right of the bars: "slowest   |" and at most "| 100.0 to 120.0 s, then 5 s".
BESIDE = 40
# A table is measured against it, to learn how wide it would like to be.
UNBOUND = 1000


def line(now: Progress) -> str:
    """One line of progress."""
    parts = [f"{now.seconds:5.1f} s", f"{now.answered:,} answered", f"{now.lost:,} lost"]
    return "  ".join([*parts, *([now.state] if now.state else [])])


def draw(report: Report, console: Console) -> None:
    """Everything, in the order in which it is asked for."""
    result = report.result
    console.print(
        f"[bold]{escape(visible(report.target))}[/], {escape(result.load)}", highlight=False
    )
    console.print(f"[bold {'red' if result.lost else 'green'}]{verdict(result)}[/]")
    if report.command:
        style = "red" if report.command.failed else "default"
        console.print(escape(report.command.sentence), style=style, highlight=False)
    console.print()
    console.print(_fates(result))
    console.print(_phases(report, console))
    console.print(
        f"longest time without an answer: {milliseconds(result.gap_ms)} ms", highlight=False
    )
    for drawn in _whose(result):
        console.print(drawn)
    for row in strip(report.timeline, min(COLUMNS, max(8, console.width - BESIDE))):
        console.print(row, highlight=False, markup=False)
    for said in [*kernel(report.kernel), *segue(report.instance)]:
        console.print(said, highlight=False, markup=False)
    for note in limits(report):
        console.print(f"note: {note}", highlight=False, markup=False, style="yellow")


def verdict(result: Result) -> str:
    """The answer in one line."""
    asked = f"{result.total:,} in {result.seconds:.1f} s, {result.rate:,.0f}/s"
    return f"{result.lost:,} lost of {asked}" if result.lost else f"none lost of {asked}"


def limits(report: Report) -> list[str]:
    """What a reader must know to trust the numbers."""
    return [*sentences(report.result), *report.notes]


def table(*heads: str, text: int = 1) -> Table:
    """A plain table; the first columns are text, the others numbers."""
    made = Table(box=None, pad_edge=False, header_style="dim")
    for number, head in enumerate(heads):
        made.add_column(head, justify="left" if number < text else "right")
    return made


def fate_rows(result: Result) -> Iterator[tuple[Fate, int, str]]:
    """Every fate that was met, how often, and the first example or what it means."""
    for fate in Fate:
        if count := result.count(fate):
            first = result.examples.get(fate)
            answer = result.answers.get(fate)
            first = f"{first}; the answer began: {answer}" if first and answer else first
            yield fate, count, f"first {first}" if first else fate.meaning


def _fates(result: Result) -> Table:
    made = Table(box=None, pad_edge=False, header_style="dim")
    made.add_column("fate")
    made.add_column("count", justify="right")
    made.add_column("evidence")
    for fate, count, evidence in fate_rows(result):
        style = "red" if fate.lost else None
        made.add_row(fate.value.replace("_", " "), f"{count:,}", escape(evidence), style=style)
    return made


def _phases(report: Report, console: Console) -> Table:
    rows: list[tuple[str, ...]] = [("", "asked", "lost", "p50 ms", "p90 ms", "p99 ms", "max ms")]
    for one in report.timeline.phases:
        latencies = map(milliseconds, (one.p50_ms, one.p90_ms, one.p99_ms, one.max_ms))
        rows.append((one.name, f"{one.total:,}", f"{one.lost:,}", *latencies))
    made = _rows(rows)
    # A figure whose last digits are cut off is a wrong figure.
    wanted = console.measure(made, options=console.options.update(max_width=UNBOUND)).maximum
    return made if wanted <= console.width else _rows(list(zip(*rows, strict=True)))


def _rows(rows: Sequence[Sequence[str]]) -> Table:
    made = table(*rows[0])
    for row in rows[1:]:
        made.add_row(*row)
    return made


def seen(result: Result) -> Iterator[tuple[str, list[tuple[str, str, str, str]]]]:
    """Tables of what served: a heading, then name, count, first and last second."""
    for heading, counts, times in (
        ("version", result.versions, result.version_times),
        ("certificate", result.certificates, result.certificate_times),
    ):
        rows = [
            (name or "(unnamed)", f"{count:,}", *(f"{at:.3f}" for at in times.get(name, ())))
            for name, count in sorted(counts.items(), key=lambda one: times.get(one[0], (0, 0)))
        ]
        if rows:
            yield heading, [(row[0], row[1], row[2], row[3]) for row in rows]
    met = {str(code): count for code, count in sorted(result.statuses.items()) if code}
    for heading, counts in (("status", met), ("close code", result.closes)):
        if counts:
            yield heading, [(name, f"{count:,}", "", "") for name, count in counts.items()]


def _whose(result: Result) -> Iterator[Table]:
    for heading, rows in seen(result):
        timed = any(first for _, _, first, _ in rows)
        made = table(heading, "count", *(("first s", "last s") if timed else ()))
        for row in rows:
            made.add_row(*(escape(cell) for cell in (row if timed else row[:2])))
        yield made


def strip(timeline: Timeline, columns: int = COLUMNS) -> list[str]:
    """Latency, losses and the restart, one line each of so many bars, over the same seconds.

    The restart's line has # while its command ran, and - while it still counts.
    """
    groups = _merge(timeline.slices, columns)
    if len(groups) < 2:
        return []
    slowest = [max((one.max_ms or 0.0 for one in group), default=0.0) for group in groups]
    losses = [sum(one.losses for one in group) for group in groups]
    width = timeline.slice_s * -(-len(timeline.slices) // len(groups))
    found = ["", f"slowest   |{_bars(slowest)}| up to {milliseconds(max(slowest))} ms"]
    found.append(f"lost      |{_bars(losses)}| up to {max(losses):,} in {width:g} s")
    if span := timeline.span:
        marks = [_mark(span, index * width, (index + 1) * width) for index in range(len(groups))]
        found.append(
            f"restart   |{''.join(marks)}|"
            f" {span.begin_s:.1f} to {span.command_end_s:.1f} s,"
            f" then {span.end_s - span.command_end_s:g} s"
        )
    return found


def _mark(span: Span, begin_s: float, end_s: float) -> str:
    if not span.touches(begin_s, end_s):
        return "."
    return "#" if begin_s <= span.command_end_s else "-"


def _merge(slices: Sequence[Slice], columns: int) -> list[list[Slice]]:
    each = -(-len(slices) // columns) or 1
    return [list(slices[begin : begin + each]) for begin in range(0, len(slices), each)]


def _bars(values: Sequence[float]) -> str:
    top = max(values, default=0) or 1
    # Something is never drawn as nothing.
    return "".join(
        BARS[max(1, round(value / top * (len(BARS) - 1)))] if value else " " for value in values
    )


def kernel(found: Kernel) -> list[str]:
    """The kernel's side in lines; why it is silent, where it is."""
    said = []
    if found.counters is not None:
        counted = [
            f"{one.name.replace('_', ' ')} +{getattr(found.counters, one.name):,}"
            for one in fields(found.counters)
        ]
        said += ["", "kernel: " + ", ".join(counted)]
    if found.unexplained:
        said.append(f"the cause of resets is not known: {found.unexplained}")
    for reason, count in sorted(found.causes.items(), key=lambda one: -one[1]):
        said.append(f"reset {count:,} x {reason}: {meaning(reason)}")
    if found.untold and not found.silent:
        said.append(f"reset {found.untold:,} x without a trace of the kernel's")
    if found.dropped:
        said.append(f"{found.dropped:,} events of the kernel's trace were not read in time")
    for reason, count in sorted(found.others.items(), key=lambda one: -one[1]):
        said.append(f"others were reset {count:,} x {reason}: {meaning(reason)}")
    return said


def segue(found: InstanceReport | None) -> list[str]:
    """Segue's own side in lines; none where it does not serve the target."""
    if found is None:
        return []
    counted = ", ".join(f"{name} +{count:,}" for name, count in found.counters())
    said = ["", f"segue ({found.name}, engine {found.engine}): {counted}"]
    return [*said, *(f"{mark.at_s:9.3f} s  {mark.text}" for mark in found.marks)]


def milliseconds(value: float | None) -> str:
    """Three digits at most are worth reading; a dash where nothing was measured."""
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"
