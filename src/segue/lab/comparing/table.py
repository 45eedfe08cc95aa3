"""A comparison as rows of text, as values for JSON, and as one page with a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from segue.lab.comparing.comparison import LOST, Compared, Summary
from segue.lab.comparing.settings import Settings
from segue.probe import drawing
from segue.probe.page import POLICY, STYLE, table, wide

HEADS = (
    "way", "on", "half-open", "queued", "accepted", "refused", "gave up", "again",
    "gone ms", "old ms", "+p50 ms", "+p99 ms",
)  # fmt: skip
NEEDS = ("way", "what it does", "privilege", "Linux")
_KINDS = ("lost0", "lost1", "lost2", "lost3", "command")  # of the page's style, as in LOST
_ROW = 34
_BAR = 11
_LEFT = 130


def rows(compared: Sequence[Compared]) -> Iterator[tuple[str, ...]]:
    """Two for each way: Linux, and the model."""
    for one in compared:
        for side, found in (("Linux", one.linux), ("model", one.model)):
            if found is None:
                yield (one.way.name, side, *["-"] * (len(HEADS) - 2))
                continue
            yield (
                one.way.name if side == "Linux" else "",
                side,
                *(f"{found.lost[fate.value]:g}" for fate in LOST),
                f"{found.reconnected:g}",
                _time(found.gone_ms),
                _time(found.old_ms),
                _added(found.added_p50_ms),
                _added(found.added_p99_ms),
            )


def needs(compared: Sequence[Compared]) -> Iterator[tuple[str, ...]]:
    """What each way is, and what its owner needs for it."""
    for one in compared:
        yield one.way.name, one.way.about, one.way.privilege, one.way.kernel


def notes(compared: Sequence[Compared]) -> Iterator[str]:
    """Why a way was not measured; each reason once."""
    for why in dict.fromkeys(one.why_not for one in compared if one.why_not):
        names = ", ".join(one.way.name for one in compared if one.why_not == why)
        yield f"Linux was not asked about {names}: {why}"


def load(settings: Settings, repetitions: int) -> str:
    """What was run, in a line."""
    return (
        f"{settings.rate:g} connections/s, round trip {settings.rtt_s * 1000:g} ms,"
        f" {settings.workers} workers {settings.busy:.0%} busy, backlog {settings.backlog},"
        f" {settings.kept} kept, {repetitions} restart{'s'[: repetitions > 1]} by each way"
    )


def plain(settings: Settings, compared: Sequence[Compared]) -> dict[str, Any]:
    """For JSON."""
    return {
        "settings": asdict(settings),
        "ways": [
            {
                "way": one.way.name,
                "about": one.way.about,
                "privilege": one.way.privilege,
                "kernel": one.way.kernel,
                "linux": asdict(one.linux) if one.linux else None,
                "model": asdict(one.model),
                "why_not": one.why_not,
            }
            for one in compared
        ],
    }


def page(settings: Settings, repetitions: int, compared: Sequence[Compared]) -> str:
    """The whole, which needs no network and no script."""
    title = "What a restart loses, by each way to empty a listener"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        POLICY,
        f"<title>{title}</title><style>{STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        f'<p class="dim">{escape(load(settings, repetitions))}</p>',
        wide(picture(compared)),
        "<h2>One restart, medians</h2>",
        table(HEADS, rows(compared), set(range(2, len(HEADS)))),
        *(f'<p class="note">{escape(note)}</p>' for note in notes(compared)),
        "<h2>What each needs</h2>",
        table(NEEDS, needs(compared), set()),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def picture(compared: Sequence[Compared]) -> str:
    """Lost connections of one restart, by where they were: Linux above, the model below."""
    sides = [side for one in compared for side in (one.linux, one.model) if side is not None]
    marks = drawing.steps(max([1.0, *(side.lost_in_all for side in sides)]), 6)
    height = drawing.TOP + _ROW * len(compared) + drawing.BOTTOM
    width = drawing.WIDTH - _LEFT - drawing.RIGHT
    bottom = height - drawing.BOTTOM

    def x(value: float) -> float:
        return round(_LEFT + width * value / marks[-1], 1)

    parts = [
        f'<line class="grid" x1="{x(mark)}" x2="{x(mark)}" y1="{drawing.TOP}" y2="{bottom}"/>'
        f'<text class="middle" x="{x(mark)}" y="{bottom + 16}">{mark:,g}</text>'
        for mark in marks
    ]
    for number, one in enumerate(compared):
        top = drawing.TOP + _ROW * number + 4
        parts.append(f'<text class="end" x="{_LEFT - 10}" y="{top + 14}">{one.way.name}</text>')
        for side, y in ((one.linux, top), (one.model, top + _BAR + 2)):
            if side is not None:
                parts += _bars(side, x, y, "" if side is one.linux else ' opacity="0.55"')
    names = [(kind, fate.value) for kind, fate in zip(_KINDS, LOST, strict=True)]
    parts.append(drawing.legend(names))
    title = "Lost connections of one restart, by where they were; the pale bars are the model's"
    return (
        f'<svg viewBox="0 0 {drawing.WIDTH} {height}" role="img" aria-label="{title}">'
        f"<title>{title}</title>{''.join(parts)}</svg>"
    )


def _bars(side: Summary, x: Callable[[float], float], y: float, more: str) -> Iterator[str]:
    base = 0.0
    for kind, fate in zip(_KINDS, LOST, strict=True):
        lost = side.lost[fate.value]
        if lost:
            yield (
                f'<rect class="{kind}" x="{x(base)}" y="{y}"'
                f' width="{round(x(base + lost) - x(base), 1)}" height="{_BAR}"{more}/>'
            )
        base += lost


def _time(milliseconds: float | None) -> str:
    return "never" if milliseconds is None else f"{milliseconds:,.0f}"


def _added(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{round(milliseconds):+}"
