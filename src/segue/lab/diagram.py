"""A story as Linux and the model replayed it, as one sequence diagram of two columns.

Both replays have the same steps, so they are laid side by side step by step, and within a step
answer by answer.  The first row in which they are not alike is marked: what follows it may be no
more than its consequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from html import escape
from itertools import zip_longest

from rich import box
from rich.table import Table
from rich.text import Text

from segue.errors import UsageError
from segue.lab.replay import SEGMENTS

_LINE, _PANEL, _MARGIN = 22, 560, 20  # pixels: of a row, a column, and around all
_HEAD = 64


class Kind(Enum):
    """Who does what in a row."""

    ARRIVES = auto()  # a client's segment
    CALL = auto()  # the server's system call, or a setting, or a wait
    SENT = auto()  # the server's segment
    ANSWER = auto()  # of the call
    COUNTED = auto()


@dataclass(frozen=True, slots=True)
class DiagramRow:
    """One line.  None stands for a side that has nothing here."""

    kind: Kind
    linux: str | None
    model: str | None


@dataclass(frozen=True, slots=True)
class Diagram:
    """A story replayed twice.  ``why_not`` says why Linux did not; then its column is empty."""

    title: str
    rows: tuple[DiagramRow, ...]
    why_not: str | None = None

    @property
    def first_difference(self) -> int | None:
        """The index of that row; None when all are alike, or Linux was not asked."""
        if self.why_not is not None:
            return None
        return next((i for i, row in enumerate(self.rows) if row.linux != row.model), None)


def diagram(
    title: str, linux: list[str] | None, model: list[str], why_not: str | None = None
) -> Diagram:
    """Lay two replays (segue.lab.replay.replay) of one story side by side.

    ``linux`` is None when it was not asked, and ``why_not`` then says why.  Raises UsageError when
    the replays are of two stories.
    """
    if linux is None:
        rows = [DiagramRow(_kind(line), None, _said(line)) for line in model]
        return Diagram(title, tuple(rows), why_not or "Linux was not asked")
    found: list[DiagramRow] = []
    for theirs, ours in zip_longest(_steps(linux), _steps(model)):
        if theirs is None or ours is None or _verb(theirs[0]) != _verb(ours[0]):
            raise UsageError(f"{title!r}: these are replays of two stories")
        for one, other in zip_longest(theirs, ours):
            kind = _kind(one if one is not None else other)
            found.append(DiagramRow(kind, one and _said(one), other and _said(other)))
    return Diagram(title, tuple(found))


def _said(line: str) -> str:
    # The arrow stands for the sign.
    return line.strip().replace(" < ", ": ", 1) if _kind(line) is Kind.SENT else line.strip()


def _verb(line: str) -> str:
    # What was counted is a difference of the sides, not of the story.
    return "counted" if line.startswith("counted ") else line


def _steps(told: Iterable[str]) -> Iterator[list[str]]:
    step: list[str] = []
    for line in told:
        if not line.startswith(" ") and step:
            yield step
            step = []
        step.append(line)
    if step:
        yield step


def _kind(line: str) -> Kind:
    if line.startswith("  = "):
        return Kind.ANSWER
    if line.startswith("  "):
        return Kind.SENT
    verb = line.split(maxsplit=1)[0]
    if verb == "counted":
        return Kind.COUNTED
    return Kind.ARRIVES if verb in SEGMENTS else Kind.CALL


_ARROWS = {Kind.ARRIVES: "──▶ ", Kind.SENT: "  ◀── ", Kind.ANSWER: "      "}


def text(shown: Diagram) -> Table:
    """For a terminal; the row of the first difference has a mark and a colour."""
    table = Table(title=shown.title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("", width=1)
    table.add_column("Linux", ratio=1, overflow="fold")
    table.add_column("model", ratio=1, overflow="fold")
    for index, row in enumerate(shown.rows):
        first = index == shown.first_difference
        cells = (_cell(row.kind, row.linux), _cell(row.kind, row.model))
        if not index and shown.why_not is not None:
            cells = Text(f"not asked: {shown.why_not}", "yellow"), cells[1]
        style = "bold red" if first else "red" if _differs(shown, row) else ""
        table.add_row("≠" if first else "", *cells, style=style)
    return table


def _differs(shown: Diagram, row: DiagramRow) -> bool:
    return shown.why_not is None and row.linux != row.model


def _cell(kind: Kind, said: str | None) -> Text:
    if said is None:
        return Text("")
    return Text(_ARROWS.get(kind, "") + said, "bold" if kind is Kind.CALL else "")


def svg(shown: Diagram) -> str:
    """The same as a picture that stands alone: two pairs of lifelines, clients and server."""
    width = 2 * (_PANEL + _MARGIN) + _MARGIN
    height = _HEAD + _LINE * len(shown.rows) + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"',
        f' viewBox="0 0 {width} {height}" font-family="monospace" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">',
        '<path d="M0 0 8 4 0 8z" fill="#345"/></marker></defs>',
        _label(_MARGIN, 22, shown.title, "15", "bold"),
    ]
    first = shown.first_difference
    if first is not None:
        top = _HEAD + _LINE * first
        parts += [
            f'<rect x="0" y="{top}" width="{width}" height="{_LINE}" fill="#fdd"/>',
            _label(4, top + 15, "≠", "13", "bold", fill="#b00"),
            _label(width - _MARGIN, 22, "≠ first difference", "13", "bold", "end", "#b00"),
        ]
    for left, name in ((_MARGIN, "Linux"), (2 * _MARGIN + _PANEL, "model")):
        right = left + _PANEL
        parts.append(_label(left, 50, "clients") + _label(right, 50, name, "11", "bold", "end"))
        parts += [
            f'<line x1="{x}" y1="{_HEAD - 8}" x2="{x}" y2="{height - 8}" stroke="#bbb"/>'
            for x in (left, right)
        ]
        if name == "Linux" and shown.why_not is not None:
            parts.append(_label(left + 12, _HEAD + 15, f"not asked: {shown.why_not}", fill="#a60"))
            continue
        for index, row in enumerate(shown.rows):
            said = row.linux if name == "Linux" else row.model
            if said is not None:
                parts.append(_drawn(row.kind, said, left, right, _HEAD + _LINE * index))
    return "\n".join([*parts, "</svg>\n"])


def _drawn(kind: Kind, said: str, left: int, right: int, top: int) -> str:
    if kind in (Kind.ARRIVES, Kind.SENT):
        ends = (left, right) if kind is Kind.ARRIVES else (right, left)
        y = top + _LINE - 4
        return _label(left + 12, y - 4, said) + (
            f'<line x1="{ends[0]}" y1="{y}" x2="{ends[1]}" y2="{y}" stroke="#345"'
            ' marker-end="url(#tip)"/>'
        )
    weight = "bold" if kind is Kind.CALL else "normal"
    return _label(right - 12, top + 15, said, "11", weight, "end")


def _label(
    x: int, y: int, said: str, size: str = "11", weight: str = "normal", anchor: str = "start",
    fill: str = "#123",
) -> str:  # fmt: skip
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}"'
        f' text-anchor="{anchor}" fill="{fill}">{escape(said)}</text>'
    )
