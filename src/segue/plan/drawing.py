"""Two pictures of a sweep as SVG: bars by way, and lines over a figure.  Pure.

The project's own SVG, as in every other page of Segue, and not matplotlib: it follows the reader's
light or dark, needs no library that a server would have to install, and is text that tests read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from segue.probe import drawing

_LEFT_OF_BARS, _ROW, _BAR = 130, 24, 14
_ROOM_FOR_A_NUMBER = 60


def bars(title: str, values: Mapping[str, tuple[float, str]]) -> str:
    """By name a value and what is written beside its bar."""
    bottom = drawing.TOP + _ROW * len(values)
    width = drawing.WIDTH - _LEFT_OF_BARS - drawing.RIGHT - _ROOM_FOR_A_NUMBER
    marks = drawing.steps(max([1e-9, *(value for value, _ in values.values())]), 6)

    def x(value: float) -> float:
        return round(_LEFT_OF_BARS + width * value / marks[-1], 1)

    parts = [
        f'<line class="grid" x1="{x(mark)}" x2="{x(mark)}" y1="{drawing.TOP}" y2="{bottom}"/>'
        f'<text class="middle" x="{x(mark)}" y="{bottom + 16}">{mark:,.10g}</text>'
        for mark in marks
    ]
    for number, (name, (value, said)) in enumerate(values.items()):
        y = drawing.TOP + _ROW * number
        end = x(value)
        parts.append(
            f'<text class="end" x="{_LEFT_OF_BARS - 10}" y="{y + 15}">{escape(name)}</text>'
            f'<rect class="lost0" x="{_LEFT_OF_BARS}" y="{y + 4}"'
            f' width="{round(end - _LEFT_OF_BARS, 1)}" height="{_BAR}"/>'
            f'<text x="{end + 6}" y="{y + 15}">{escape(said)}</text>'
        )
    return _svg(title, bottom + drawing.BOTTOM, parts)


def lines(
    title: str, unit: str, places: Sequence[str], values: Mapping[str, tuple[str, Sequence[float]]]
) -> str:
    """By name a class of the page's style and a value at each place, from left to right."""
    high = max([1e-9, *(value for _, them in values.values() for value in them)])
    marks = drawing.steps(high, 4)
    step = drawing.PLOT_WIDTH / len(places)
    bottom = drawing.TOP + drawing.PLOT_HEIGHT

    def x(place: int) -> float:
        return round(drawing.LEFT + step * (place + 0.5), 1)

    def y(value: float) -> float:
        return round(bottom - drawing.PLOT_HEIGHT * value / marks[-1], 1)

    parts = [f'<text x="0" y="{drawing.TOP - 14}">{escape(unit)}</text>']
    parts += [
        f'<line class="grid" x1="{drawing.LEFT}" x2="{drawing.WIDTH - drawing.RIGHT}"'
        f' y1="{y(mark)}" y2="{y(mark)}"/>'
        f'<text class="end" x="{drawing.LEFT - 8}" y="{y(mark) + 4}">{mark:,.10g}</text>'
        for mark in marks
    ]
    parts += [
        f'<text class="middle" x="{x(place)}" y="{drawing.HEIGHT - 12}">{escape(name)}</text>'
        for place, name in _spread(places)
    ]
    for kind, them in values.values():
        points = [f"{x(place)},{y(value)}" for place, value in enumerate(them)]
        parts.append(f'<polyline class="line {kind}" points="{" ".join(points)}"/>')
        parts += [
            f'<circle class="dot {kind}" cx="{x(place)}" cy="{y(value)}" r="3"/>'
            for place, value in enumerate(them)
        ]
    parts.append(drawing.legend([(kind, name) for name, (kind, _) in values.items()]))
    return _svg(title, drawing.HEIGHT, parts)


_MOST_NAMES = 16  # below a picture; more would overlap


def _spread(places: Sequence[str]) -> Iterator[tuple[int, str]]:
    every = -(-len(places) // _MOST_NAMES)
    return ((at, name) for at, name in enumerate(places) if at % every == 0)


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {drawing.WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
