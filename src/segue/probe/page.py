"""A report as one page that needs nothing else: no network, no script, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from html import escape

from segue.probe import drawing, screen
from segue.probe.instance_report import InstanceReport
from segue.probe.kernel import Kernel, meaning
from segue.probe.session import Report

# System fonts: a page that opens without a network has no others.
STYLE = """
:root { color-scheme: light dark; --back: #fff; --ink: #1c2733; --dim: #5c6b7a; --rule: #dde3e9;
  --ok: #7fb8a4; --good: #1b7f5c; --bad: #c2352b; --warn: #8a5a00;
  --lost0: #c2352b; --lost1: #e08a1e; --lost2: #8e44ad; --lost3: #5b2c20;
  --p50: #2a6fbb; --p99: #7d5fc4; --max: #b7bfc8; --command: #f2b84b; --settle: #f6efdd; }
@media (prefers-color-scheme: dark) { :root { --back: #12181f; --ink: #dfe6ed; --dim: #93a1af;
  --rule: #2a3541; --ok: #2f6f5c; --good: #58c79c; --bad: #ff7468; --warn: #e6b455;
  --lost0: #ff6257; --lost1: #ffab4a; --lost2: #c58af0; --lost3: #d9a08f;
  --p50: #6db0f5; --p99: #b49bf0; --max: #6f7d8b; --command: #b07a12; --settle: #2a2517; } }
* { box-sizing: border-box; }
body { background: var(--back); color: var(--ink); margin: 0 auto; max-width: 1040px;
  padding: 28px 24px 48px; font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 19px; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 15px; font-weight: 600; margin: 30px 0 6px; }
p { margin: 4px 0; } .dim { color: var(--dim); } .note { color: var(--warn); }
.verdict { font-size: 34px; font-weight: 650; line-height: 1.2; margin: 14px 0 2px; }
.good { color: var(--good); } .bad { color: var(--bad); }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { color: var(--dim); font-weight: 500; text-align: left; }
th, td { border-bottom: 1px solid var(--rule); padding: 4px 22px 4px 0; vertical-align: top; }
.n { text-align: right; white-space: nowrap; }
/* Below this its words are too small to read, so it scrolls. */
svg { display: block; height: auto; min-width: 720px; width: 100%; }
svg text { fill: var(--dim); font: 12px system-ui, sans-serif; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.grid { stroke: var(--rule); stroke-width: 1; }
.mark { stroke: var(--ink); stroke-dasharray: 3 3; stroke-width: 1; opacity: .7; }
.settle { fill: var(--settle); } .command { fill: var(--command); opacity: .55; }
.ok { fill: var(--ok); } .lost0 { fill: var(--lost0); } .lost1 { fill: var(--lost1); }
.lost2 { fill: var(--lost2); } .lost3 { fill: var(--lost3); }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.line.p50 { stroke: var(--p50); } .line.p99 { stroke: var(--p99); }
/* Where it is the 99th percentile too, it shows on both sides of that line. */
.line.max { stroke: var(--max); stroke-width: 4; }
.dot.p50, .p50.key { fill: var(--p50); } .dot.p99, .p99.key { fill: var(--p99); }
.dot.max, .max.key { fill: var(--max); }
"""

POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\';'
    " style-src 'unsafe-inline'\">"
)
Cell = str | int


def render(report: Report) -> str:
    """The whole page.  Whatever came from a server, a command or the user is escaped."""
    result = report.result
    title = f"{screen.verdict(result)}: {report.target}"
    marks = report.instance.marks if report.instance else ()
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        # Nothing is loaded, and nothing that a server said can make it so.
        POLICY,
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        *_head(report),
        "<h2>Attempts over time</h2>",
        wide(drawing.losses(report.timeline, marks)),
        "<h2>Latency over time</h2>",
        wide(drawing.latency(report.timeline, marks)),
        *_tables(report),
        *_kernel(report.kernel),
        *_segue(report.instance),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _head(report: Report) -> Iterable[str]:
    result = report.result
    when = datetime.fromtimestamp(result.began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    yield f"<h1>{escape(report.target)}</h1>"
    yield f'<p class="dim">{escape(result.load)}, {when}</p>'
    lost = f"{result.lost:,} lost" if result.lost else "none lost"
    yield f'<p class="verdict {"bad" if result.lost else "good"}">{lost}</p>'
    yield (
        f"<p>of {result.total:,} in {result.seconds:.1f} s, {result.rate:,.0f}/s;"
        f" longest time without an answer {screen.milliseconds(result.gap_ms)} ms</p>"
    )
    if report.command:
        style = ' class="bad"' if report.command.failed else ""
        yield f"<p{style}>{escape(report.command.sentence)}</p>"
    for note in screen.limits(report):
        yield f'<p class="note">{escape(note)}</p>'


def _tables(report: Report) -> Iterable[str]:
    rows: list[Sequence[Cell]] = [
        (fate.value.replace("_", " "), count, evidence)
        for fate, count, evidence in screen.fate_rows(report.result)
    ]
    yield "<h2>Every attempt by fate</h2>" + table(("fate", "count", "evidence"), rows, {1})
    heads = ("phase", "asked", "lost", "p50 ms", "p90 ms", "p99 ms", "max ms")
    rows = [
        (
            one.name,
            one.total,
            one.lost,
            *map(screen.milliseconds, (one.p50_ms, one.p90_ms, one.p99_ms, one.max_ms)),
        )
        for one in report.timeline.phases
    ]
    yield "<h2>Before, during and after</h2>" if report.timeline.span else "<h2>Latency</h2>"
    yield table(heads, rows, set(range(1, 7)))
    if span := report.timeline.span:
        yield (
            f'<p class="dim">The restart counts from {span.begin_s:.3f} s, when the command began,'
            f" over its end at {span.command_end_s:.3f} s, to {span.end_s:.3f} s.</p>"
        )
    for heading, seen in screen.seen(report.result):
        yield f"<h2>By {heading}</h2>"
        timed = any(first for _, _, first, _ in seen)
        names = (heading, "count", "first s", "last s")[: 4 if timed else 2]
        yield table(names, [row[: len(names)] for row in seen], {1, 2, 3})


def _kernel(found: Kernel) -> Iterable[str]:
    yield "<h2>The kernel's side</h2>"
    if found.counters is not None:
        rows: list[Sequence[Cell]] = [
            (one.name.replace("_", " "), getattr(found.counters, one.name))
            for one in fields(found.counters)
        ]
        yield table(("counter", "more than before"), rows, {1})
    if found.unexplained:
        cause = escape(found.unexplained)
        yield f'<p class="note">The cause of resets is not known: {cause}</p>'
    if found.silent:
        return
    causes: list[Sequence[Cell]] = [
        (reason, count, meaning(reason))
        for reason, count in sorted(found.causes.items(), key=lambda one: -one[1])
    ]
    if found.untold:
        causes.append(("(no trace)", found.untold, "the kernel's trace does not have it"))
    if found.dropped:
        causes.append(("(not read)", found.dropped, "events of the trace that came too fast"))
    for reason, count in sorted(found.others.items(), key=lambda one: -one[1]):
        causes.append((reason, count, f"others' connections: {meaning(reason)}"))
    if causes:
        yield "<h2>Why connections were reset</h2>"
        yield table(("reason", "count", "meaning"), causes, {1})
    else:
        yield '<p class="dim">No connection of the probe was reset.</p>'


def _segue(found: InstanceReport | None) -> Iterable[str]:
    if found is None:
        return
    yield "<h2>Segue's side</h2>"
    yield f'<p class="dim">instance {escape(found.name)}, engine {escape(found.engine)}</p>'
    yield table(("counter", "more than before"), list(found.counters()), {1})
    rows = [(f"{mark.at_s:.3f}", mark.text) for mark in found.marks]
    if rows:
        yield "<h2>Its stages</h2>" + table(("seen at s", "stage"), rows, {0})


def table(heads: Sequence[str], rows: Iterable[Sequence[Cell]], numbers: set[int]) -> str:
    """Rows under their heads; the columns in ``numbers`` stand to the right.  All is escaped."""

    def cell(column: int, value: Cell, tag: str) -> str:
        style = ' class="n"' if column in numbers else ""
        text = f"{value:,}" if isinstance(value, int) else escape(value)
        return f"<{tag}{style}>{text}</{tag}>"

    def cells(row: Sequence[Cell], tag: str) -> str:
        return "".join(cell(column, value, tag) for column, value in enumerate(row))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return wide(f"<table><tr>{cells(heads, 'th')}</tr>{body}</table>")


def wide(drawn: str) -> str:
    """What scrolls by itself where the window is too narrow."""
    return f'<div class="scroll">{drawn}</div>'
