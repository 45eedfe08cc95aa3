"""The picture of the README: what two runs of ``segue probe --json`` saw, one above the other.

``python -m docs.generate.picture 'TITLE=REPORT.json' ... > docs/restart.svg``
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

WIDTH, PANEL, LEFT, HIGH = 860, 190, 20, 90
SECONDS = 3.8  # of each report
_LOST = "#c62828"


def _panel(title: str, report: Mapping[str, Any], top: int) -> list[str]:
    """One report: a bar of answers for each slice of time, and a red one where some were lost."""
    timeline = report["timeline"]
    slices = [one for one in timeline["slices"] if one["at_s"] < SECONDS]
    most = max(one["ok"] for one in slices)
    scale = (WIDTH - 2 * LEFT) / SECONDS
    wide = timeline["slice_s"] * scale - 1
    base = top + 60 + HIGH
    lost = report["lost"]
    said = f"{lost or 'none'} of {report['total']:,} requests lost"
    gap = f"longest time without an answer: {report['gap_ms']:.0f} ms"
    colour = _LOST if lost else "#00796b"
    parts = [
        f'<text x="{LEFT}" y="{top + 24}" font-weight="600">{escape(title)}</text>',
        f'<text x="{LEFT}" y="{top + 46}" fill="{colour}">{said}; {gap}</text>',
    ]
    for one in slices:
        high = HIGH * one["ok"] / most
        x = LEFT + one["at_s"] * scale
        parts.append(
            f'<rect x="{x:.1f}" y="{base - high:.1f}" width="{wide:.1f}" height="{high:.1f}"'
            ' fill="#80cbc4"/>'
        )
        if one["lost"]:
            parts.append(
                f'<rect x="{x:.1f}" y="{base - HIGH}" width="{max(wide, 4):.1f}" height="{HIGH}"'
                f' fill="{_LOST}"/>'
            )
    begin = LEFT + timeline["span"]["begin_s"] * scale
    parts.append(f'<path d="M{begin:.1f} {base - HIGH}V{base + 6}" stroke="#333"/>')
    parts.append(f'<text x="{begin:.1f}" y="{base + 21}" font-size="12">restart</text>')
    for mark in (report["segue"] or {}).get("marks", [])[1:]:
        x = LEFT + mark["at_s"] * scale
        text, end = escape(mark["text"]), ' text-anchor="end"' if "serves" in mark["text"] else ""
        parts.append(f'<path d="M{x:.1f} {base}V{base + 6}" stroke="#333"/>')
        parts.append(f'<text x="{x:.1f}" y="{base + 21}" font-size="12"{end}>{text}</text>')
    return parts


def picture(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """An SVG of reports by their title."""
    height = PANEL * len(reports) + 20
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
            ' font-family="system-ui, sans-serif" font-size="16" fill="#222">'
        ),
        "<title>Answers in each twentieth of a second of a restart under load</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#ffffff"/>',
    ]
    for number, (title, report) in enumerate(reports.items()):
        parts += _panel(title, report, number * PANEL)
    return "\n".join([*parts, "</svg>\n"])


def main(*arguments: str) -> None:
    """Print the picture of TITLE=FILE ... ."""
    given = dict(one.split("=", 1) for one in arguments)
    print(picture({title: json.loads(Path(file).read_text()) for title, file in given.items()}))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
