"""A film as one picture that stands alone: time goes down, a lane for each client and listener.

Chips are clients: in a box of dashes those that are half-open, in one of a line those that wait for
accept().  Light or dark as the viewer's system is.
"""

from __future__ import annotations

import textwrap
from html import escape

from segue.lab.explaining import words
from segue.lab.explaining.frames import Arrow, Film, Frame, Move
from segue.lab.explaining.stands import ListenerStands
from segue.lab.explaining.text import LEGEND, compared, of_told, rows_in

_CLIENT, _LISTENER, _MARGIN = 120, 210, 24  # pixels
_LINE, _CHAR = 19, 7.3
_LEAST = 760
_MOST_CLIENTS = 6  # beyond that they have one lane together
_TOGETHER = "clients"

# Inside the picture, so that it needs nothing else.
STYLE = """
:root{--paper:#fff;--ink:#1b2733;--quiet:#5d6b78;--line:#b6c0c9;--move:#9c1f86;--note:#0b5d75;
--difference:#b3140d;--half:#fff4d6;--queue:#dff2e1;--box:#f4f6f8}
@media (prefers-color-scheme:dark){:root{--paper:#12171c;--ink:#e3e9ee;--quiet:#98a6b3;
--line:#46535f;--move:#f08bdc;--note:#74cbe4;--difference:#ff8a80;--half:#4a3d14;--queue:#1d4426;
--box:#1c242b}}
"""
_RULES = """
svg{background:var(--paper)}text{font:12px ui-monospace,monospace;fill:var(--ink)}
.title{font-size:17px;font-weight:bold}.head{font-weight:bold}.quiet{fill:var(--quiet)}
.note{fill:var(--note)}.move{fill:var(--move)}.difference{fill:var(--difference);font-weight:bold}
.lane{stroke:var(--line)}.kept{stroke-dasharray:3 4}.rule{stroke:var(--line);stroke-opacity:.5}
.arrow{stroke:var(--ink);stroke-width:1.3}.moves{stroke:var(--move);stroke-width:3}
.box{fill:var(--box);stroke:var(--line)}.queue{fill:var(--queue);stroke:var(--ink)}
.half{fill:var(--half);stroke:var(--ink);stroke-dasharray:3 2}
#tip path{fill:var(--ink)}#mtip path{fill:var(--move)}
"""


def svg(shown: Film) -> str:
    """The picture, as text."""
    return _Picture(shown).drawn()


class _Picture:
    def __init__(self, shown: Film) -> None:
        self._film = shown
        clients = shown.clients if len(shown.clients) <= _MOST_CLIENTS else (_TOGETHER,)
        self._lanes: dict[str, int] = {}
        at = _MARGIN
        for names, width in ((clients, _CLIENT), (shown.listeners, _LISTENER)):
            for name in names:
                self._lanes[name] = at + width // 2
                at += width
        self._width = max(at + _MARGIN, _LEAST)
        self._parts: list[str] = []
        self._y = 34
        self._stands: dict[str, ListenerStands] = {}

    def drawn(self) -> str:
        film = self._film
        self._write(film.title, "title")
        self._wrapped(film.prose, "")
        self._wrapped(compared(film), "quiet")
        self._y += _LINE
        for name, x in self._lanes.items():
            self._label(x, self._y, name, "head", "middle")
        self._y += 8
        for index, frame in enumerate(film.frames):
            self._frame(frame)
            following = film.frames[index + 1 : index + 2]
            if not following or following[0].step != frame.step:
                self._difference(frame.step)
        self._y += _LINE
        self._wrapped(LEGEND, "quiet")
        for row in rows_in(film):
            self._wrapped(f"{row}: {words.of_row(row)}.", "quiet")
        height = self._y + _MARGIN
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self._width}" height="{height}"'
            f' viewBox="0 0 {self._width} {height}" role="img">'
        )
        title = f"<title>{escape(film.title)}</title><style>{STYLE}{_RULES}</style>"
        tips = "".join(
            f'<defs><marker id="{name}" markerWidth="9" markerHeight="8" refX="8" refY="4"'
            ' orient="auto" markerUnits="userSpaceOnUse"><path d="M0 0 9 4 0 8z"/></marker></defs>'
            for name in ("tip", "mtip")
        )
        return "\n".join([head, title, tips, *self._parts, "</svg>\n"])

    def _label(self, x: float, y: float, said: str, kind: str = "", anchor: str = "start") -> None:
        self._parts.append(
            f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">'
            f"{escape(said)}</text>"
        )

    def _line(self, x1: int, y1: int, x2: int, y2: int, kind: str, tip: str = "") -> None:
        end = f' marker-end="url(#{tip})"' if tip else ""
        self._parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{kind}"{end}/>')

    def _write(self, said: str, kind: str) -> None:
        self._label(_MARGIN, self._y, said, kind)
        self._y += _LINE

    def _wrapped(self, said: str, kind: str) -> None:
        room = int((self._width - 2 * _MARGIN) / _CHAR)
        for line in textwrap.wrap(said, room, break_on_hyphens=False):
            self._write(line, kind)

    def _frame(self, frame: Frame) -> None:
        self._y += 8
        self._line(_MARGIN, self._y, self._width - _MARGIN, self._y, "rule")
        self._y += _LINE - 2
        said = "later" if frame.is_later else f"{frame.step + 1}  {frame.said}"
        self._label(self._width - _MARGIN, self._y, f"{frame.at:.2f} s", "quiet", "end")
        self._write(said, "head")
        for arrow in frame.arrows:
            if arrow.to_listener:
                self._arrow(arrow)
        for note in frame.notes:
            self._wrapped(note, "note")
        for move in frame.moves:
            self._move(move)
        for arrow in frame.arrows:
            if not arrow.to_listener:
                self._arrow(arrow)
        for note in frame.after:
            self._wrapped(note, "note")
        for answer in frame.answers:
            self._wrapped(f"= {answer}", "")
        self._standing(frame)
        for name, number in frame.counted:
            self._wrapped(f"{number:+} {name}: {words.COUNTERS[name]}", "quiet")

    def _lifelines(self, height: int) -> None:
        for name, x in self._lanes.items():
            stands = self._stands.get(name)
            is_client = name in self._film.clients or name == _TOGETHER
            if is_client or (stands is not None and stands.is_there):
                kept = " kept" if stands is not None and not stands.is_live else ""
                self._line(x, self._y - 13, x, self._y - 13 + height, f"lane{kept}")

    def _arrow(self, arrow: Arrow) -> None:
        self._y += 12
        self._lifelines(_LINE + 4)
        near = self._lanes.get(arrow.client) or self._lanes[_TOGETHER]
        label = arrow.label if arrow.client in self._lanes else f"{arrow.client}: {arrow.label}"
        far = self._lanes.get(arrow.listener)
        if far is None:
            far = near + _CLIENT
            label += " (nobody's)"
        one, other = (near, far) if arrow.to_listener else (far, near)
        self._line(one, self._y, other, self._y, "arrow", "tip")
        self._label((one + other) / 2, self._y - 4, label, "", "middle")
        self._y += _LINE

    def _move(self, move: Move) -> None:
        self._y += 14
        self._lifelines(_LINE + 6)
        source = self._lanes[move.source]
        target = self._lanes[move.target] if move.target else source + _LISTENER // 2
        self._line(source, self._y, target, self._y, "moves", "mtip")
        named = move.client if move.target else f"{move.client} is lost"
        self._label((source + target) / 2, self._y - 5, named, "move", "middle")
        self._y += _LINE
        self._wrapped(move.sentence, "move")
        self._wrapped(words.of_rows(move.rows), "quiet")

    def _standing(self, frame: Frame) -> None:
        changed = [
            one
            for one in frame.listeners
            if self._stands.get(one.name) != one and (one.is_there or one.name in self._stands)
        ]
        self._stands = {one.name: one for one in frame.listeners}
        if not changed:
            return
        drawn = [(one, _rows(one)) for one in changed]
        height = max(len(rows) for _, rows in drawn) * (_LINE + 2) + 6
        self._lifelines(height + 14)
        top = self._y - 8
        for one, rows in drawn:
            left = self._lanes[one.name] - _LISTENER // 2 + 6
            tall = len(rows) * (_LINE + 2) + 4
            self._parts.append(
                f'<rect x="{left}" y="{top}" width="{_LISTENER - 12}" height="{tall}" rx="5"'
                ' class="box"/>'
            )
            for number, (said, names, kind) in enumerate(rows):
                self._chips(left + 8, top + 15 + number * (_LINE + 2), said, names, kind)
        self._y += height + 6

    def _chips(self, x: float, y: float, said: str, names: tuple[str, ...], kind: str) -> None:
        self._label(x, y, said)
        x += (len(said) + 1) * _CHAR
        for name in names:
            wide = len(name) * _CHAR + 8
            self._parts.append(
                f'<rect x="{x:.0f}" y="{y - 12}" width="{wide:.0f}" height="16" rx="4"'
                f' class="{kind}"/>'
            )
            self._label(x + 4, y, name)
            x += wide + 4

    def _difference(self, step: int) -> None:
        differing = self._film.differing
        if step in differing:
            theirs, ours = differing[step]
            first = " (the first difference)" if step == min(differing) else ""
            self._wrapped(f"≠ {self._film.other}: {of_told(theirs)}{first}", "difference")
            self._wrapped(f"model: {of_told(ours)}", "difference")


def _rows(one: ListenerStands) -> list[tuple[str, tuple[str, ...], str]]:
    """What a box has, line by line: words, chips and their kind."""
    if not one.is_there:
        return [("gone", (), "")]
    found: list[tuple[str, tuple[str, ...], str]] = [(one.state, (), "")]
    if one.half_open or one.counted:
        counts = "" if one.counted == len(one.half_open) else f" (counts {one.counted})"
        found += _some(f"half-open{counts}", one.half_open, "half")
    if one.queue:
        found += _some(f"queue of {one.room}", one.queue, "queue")
    if one.slots is not None:
        found.append((f"slots {one.slots[0]} of {one.slots[1]}", (), ""))
    return found


def _some(said: str, names: tuple[str, ...], kind: str) -> list[tuple[str, tuple[str, ...], str]]:
    """As many chips in a line as fit, and the rest in lines below."""
    found, line, room = [], list[str](), (_LISTENER - 30) - (len(said) + 1) * _CHAR
    for name in names:
        wide = len(name) * _CHAR + 12
        if wide > room and line:
            found.append((said, tuple(line), kind))
            said, line, room = "", [], _LISTENER - 38
        line.append(name)
        room -= wide
    return [*found, (said, tuple(line), kind)]
