"""Two pictures of a run as SVG, drawn by hand: losses over time, and latency over time.

Colours come from the page's own variables, so that one picture serves light and dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from math import ceil, floor, log10

from segue.probe.fates import Fate
from segue.probe.instance_report import Milestone
from segue.probe.timeline import Span, Timeline

WIDTH, HEIGHT = 960, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 22, 28, 34
PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM


class _Scale:
    """From seconds and a value to the picture; ``logarithmic`` from ``low`` on."""

    def __init__(self, seconds: float, high: float, low: float = 0.0) -> None:
        self.seconds, self.high, self.low = seconds or 1.0, high, low

    def x(self, at_s: float) -> float:
        return round(LEFT + PLOT_WIDTH * min(1.0, max(0.0, at_s / self.seconds)), 1)

    def y(self, value: float) -> float:
        if self.low:
            part = log10(max(value, self.low) / self.low) / log10(self.high / self.low)
        else:
            part = value / self.high
        return round(TOP + PLOT_HEIGHT * (1 - min(1.0, part)), 1)


def steps(high: float, wanted: int = 5) -> list[float]:
    """Round numbers from 0 to at least ``high``: 1, 2 or 5 times a power of ten apart."""
    rough = max(high, 1e-9) / wanted
    power = 10.0 ** floor(log10(rough))
    step = next(power * by for by in (1, 2, 5, 10) if power * by >= rough * 0.999)
    return [round(step * number, 9) for number in range(ceil(high / step - 1e-9) + 1)]


def losses(timeline: Timeline, happened: Sequence[Milestone] = ()) -> str:
    """Answered and lost attempts a second, lost ones by fate, against the restart's span."""
    per = 1 / timeline.slice_s
    fates = [fate for fate in Fate if any(fate in one.lost for one in timeline.slices)]
    high = max([1.0, *((one.ok + one.losses) * per for one in timeline.slices)])
    marks = steps(high, 4)
    scale = _Scale(_length(timeline), marks[-1])
    parts = [*_frame(timeline, scale, marks, "attempts/s")]
    for one in timeline.slices:
        base = 0.0
        for kind, count in (
            ("ok", one.ok),
            *((_kind(fates, fate), one.lost.get(fate, 0)) for fate in fates),
        ):
            if count:
                parts.append(_bar(scale, one.at_s, timeline.slice_s, base * per, count * per, kind))
            base += count
    names = [
        ("ok", "answered"),
        *((_kind(fates, fate), fate.value.replace("_", " ")) for fate in fates),
    ]
    parts += _marks(scale, happened)
    parts.append(legend(names))
    return _svg("Attempts a second, answered and lost, over time", parts)


def latency(timeline: Timeline, happened: Sequence[Milestone] = ()) -> str:
    """Median, 99th percentile and slowest answer of each slice, on a logarithmic scale."""
    slowest = [one.max_ms for one in timeline.slices if one.max_ms is not None]
    fastest = [one.p50_ms for one in timeline.slices if one.p50_ms is not None]
    low = 10.0 ** floor(log10(max(min(fastest, default=0.1), 0.001)))
    high = max(10.0 ** ceil(log10(max(max(slowest, default=1.0), low * 1.01))), low * 10)
    marks = [low * 10.0**power for power in range(round(log10(high / low)) + 1)]
    scale = _Scale(_length(timeline), high, low)
    parts = [*_frame(timeline, scale, marks, "ms")]
    middle = timeline.slice_s / 2
    for name in ("max", "p99", "p50"):
        line = [(one.at_s + middle, getattr(one, f"{name}_ms")) for one in timeline.slices]
        parts += _lines(scale, line, name)
    parts += _marks(scale, happened)
    parts.append(legend([("p50", "median"), ("p99", "99 %"), ("max", "slowest")]))
    return _svg("Latency of answered attempts over time, in milliseconds", parts)


def _kind(fates: Sequence[Fate], fate: Fate) -> str:
    return f"lost{fates.index(fate) % 4}"


def _length(timeline: Timeline) -> float:
    return timeline.slice_s * len(timeline.slices)


def _svg(title: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _frame(timeline: Timeline, scale: _Scale, marks: Sequence[float], unit: str) -> Iterator[str]:
    if timeline.span:
        yield from _span(scale, timeline.span)
    for mark in marks:
        y = scale.y(mark)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text class="end" x="{LEFT - 8}" y="{y + 4}">{mark:,g}</text>'
    yield f'<text x="0" y="{TOP - 14}">{escape(unit)}</text>'
    for second in steps(scale.seconds, 10):
        if second <= scale.seconds:
            x = scale.x(second)
            yield f'<text class="middle" x="{x}" y="{HEIGHT - 12}">{second:g} s</text>'


def _span(scale: _Scale, span: Span) -> Iterator[str]:
    begin, command, end = (scale.x(at) for at in (span.begin_s, span.command_end_s, span.end_s))
    height = PLOT_HEIGHT
    yield (
        f'<rect class="settle" x="{begin}" y="{TOP}" width="{max(1.0, round(end - begin, 1))}"'
        f' height="{height}"/>'
    )
    # A command of some milliseconds is still to be seen.
    yield (
        f'<rect class="command" x="{begin}" y="{TOP}" width="{max(2.0, round(command - begin, 1))}"'
        f' height="{height}"/>'
    )
    yield f'<text x="{begin + 5}" y="{TOP - 8}">restart</text>'


def _marks(scale: _Scale, happened: Sequence[Milestone]) -> Iterator[str]:
    """A line for each, with its words beside it; those that would overlap go a line lower."""
    free = [0.0] * 4
    for mark in happened:
        x, width = scale.x(mark.at_s), 6.2 * len(mark.text) + 10
        yield f'<line class="mark" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        row = next((row for row, until in enumerate(free) if until <= x), None)
        if row is None:
            continue  # too many: the table has them all
        side, at = ("end", x - 4) if x + width > WIDTH - RIGHT else ("begin", x + 4)
        free[row] = x + width if side == "begin" else x
        y = TOP + 14 + 14 * row
        yield f'<text class="{side} word" x="{at}" y="{y}">{escape(mark.text)}</text>'


def _bar(scale: _Scale, at_s: float, width_s: float, base: float, height: float, kind: str) -> str:
    left, right = scale.x(at_s), scale.x(at_s + width_s)
    top, bottom = scale.y(base + height), scale.y(base)
    # One loss among thousands of answers must not vanish.
    tall = max(bottom - top, 0 if kind == "ok" else 2)
    return (
        f'<rect class="{kind}" x="{left}" y="{round(bottom - tall, 1)}"'
        f' width="{max(0.5, round(right - left - 0.4, 1))}" height="{round(tall, 1)}"/>'
    )


def _lines(scale: _Scale, line: Sequence[tuple[float, float | None]], name: str) -> Iterator[str]:
    """A line for each stretch with answers: across a gap there is none to draw."""
    stretch: list[str] = []
    for at, value in [*line, (0.0, None)]:
        if value is not None:
            stretch.append(f"{scale.x(at)},{scale.y(value)}")
        elif stretch:
            if len(stretch) == 1:
                x, _, y = stretch[0].partition(",")
                yield f'<circle class="dot {name}" cx="{x}" cy="{y}" r="1.6"/>'
            else:
                yield f'<polyline class="line {name}" points="{" ".join(stretch)}"/>'
            stretch = []


def legend(names: Sequence[tuple[str, str]]) -> str:
    """What each kind, a class of the page's style, stands for; in the upper right corner."""
    parts, x = [], WIDTH - RIGHT
    for kind, name in reversed(names):
        x -= 7 * len(name) + 6
        parts.append(f'<text x="{x}" y="{TOP - 10}">{escape(name)}</text>')
        x -= 14
        parts.append(f'<rect class="{kind} key" x="{x}" y="{TOP - 19}" width="10" height="10"/>')
        x -= 10
    return "".join(parts)
