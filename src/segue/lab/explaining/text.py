"""A film for a terminal: a lane for each client and each listener, and a line for what happens.

│──▶│  a segment, from the client's lane to the listener's, or back
A═c═▶B  a half-open request or a child moves
│ ┆     a listener that listens; one that has stopped and is kept for what refers to it
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from segue.lab.explaining import words
from segue.lab.explaining.frames import Arrow, Film, Frame, Move, Told
from segue.lab.explaining.stands import ClientStands, ListenerStands

_CLIENT, _LISTENER = 13, 18  # columns: the least for what stands there
_MOST = 34
_TOGETHER = "clients"  # the lane of all, where there is no room for one each
_NARROWEST = 40

LEGEND = (
    "half-open: its SYN-ACK is sent and its final ACK is awaited. queue: its handshake is over and"
    " it waits for accept(). │ listens. ┆ has stopped, and is kept in its group for what refers to"
    " it. ── a segment. ══ a migration or a carry. N/8: a patch of the series (docs/SERIES.md)."
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the output, and a style of rich for it."""

    said: str
    style: str = ""


def text(shown: Film, width: int) -> list[Line]:
    """The whole film in so many columns.  Names are as the story has them: make them visible."""
    return _Text(shown, max(width, _NARROWEST)).lines()


class _Text:
    """What it takes to draw: the lanes, and how all stood before."""

    def __init__(self, shown: Film, width: int) -> None:
        self._film = shown
        self._width = width
        self._lanes = _lanes(shown, width)
        self._stands: dict[str, ListenerStands] = {}
        self._clients: dict[str, ClientStands] = {}

    def lines(self) -> list[Line]:
        film = self._film
        found = [*self._wrapped(film.title, "", "bold"), *self._wrapped(film.prose, "")]
        found += [*self._wrapped(compared(film), "", "dim"), Line(""), *self._head()]
        for index, frame in enumerate(film.frames):
            found += self._frame(frame)
            following = film.frames[index + 1 : index + 2]
            if not following or following[0].step != frame.step:
                found += self._difference(frame.step)
        return [*found, Line(""), *self._legend()]

    def _wrapped(self, said: str, lead: str, style: str = "") -> list[Line]:
        if not said:
            return []
        # What follows the first line stands below its first word.
        after = " " * len(lead)
        made = textwrap.wrap(
            said, self._width, initial_indent=lead, subsequent_indent=after,
            break_on_hyphens=False,
        )  # fmt: skip
        return [Line(one, style) for one in made]

    def _head(self) -> list[Line]:
        if not self._lanes:
            return []
        row = [" "] * self._width
        for name, lane in self._lanes.items():
            _put(row, lane.start, name[: lane.width - 1])
        return [Line("".join(row).rstrip(), "bold")]

    def _frame(self, frame: Frame) -> list[Line]:
        headline = f"── {frame.step + 1} {frame.said} " if not frame.is_later else "── later "
        at = f" {frame.at:.2f} s"
        room = self._width - len(at)
        headline = headline[:room].ljust(room, "─") + at
        found = [Line(headline, "bold" if not frame.is_later else "bold cyan")]
        now = {one.name: one for one in frame.listeners}
        arrives = [one for one in frame.arrows if one.to_listener]
        found += [line for one in arrives for line in self._arrow(one)]
        found += [line for note in frame.notes for line in self._wrapped(note, " · ", "cyan")]
        for index, move in enumerate(frame.moves):
            found += self._move(move)
            if [one.rows for one in frame.moves[index + 1 : index + 2]] != [move.rows]:
                found += self._wrapped(words.of_rows(move.rows), "   ", "dim")
        found += [line for note in frame.after for line in self._wrapped(note, " · ", "cyan")]
        found += [line for one in frame.answers for line in self._wrapped(one, "   = ")]
        found += [line for one in frame.arrows if not one.to_listener for line in self._arrow(one)]
        found += self._standing(frame, now)
        for name, number in frame.counted:
            said = f"{number:+} {name}: {words.COUNTERS[name]}"
            found += self._wrapped(said, "   ", "dim")
        return found

    def _blank(self) -> list[str]:
        row = [" "] * self._width
        for name, lane in self._lanes.items():
            stands = self._stands.get(name)
            if lane.is_client or (stands is not None and stands.is_live):
                row[lane.middle] = "│"
            elif stands is not None and stands.is_there:
                row[lane.middle] = "┆"
        return row

    def _lane_of(self, client: str) -> _Lane:
        return self._lanes.get(client) or self._lanes[_TOGETHER]

    def _arrow(self, arrow: Arrow) -> list[Line]:
        label = arrow.label
        if not self._lanes:
            way = "▶" if arrow.to_listener else "◀"
            return self._wrapped(
                f"{arrow.client} ─{label}─{way} {arrow.listener or 'nobody'}", "  "
            )
        client = self._lane_of(arrow.client)
        if _TOGETHER in self._lanes:
            label = f"{arrow.client}: {label}"
        row, near = self._blank(), client.middle
        listener = self._lanes.get(arrow.listener)
        if listener is None:
            said = f"──{label}──▶ nobody's" if arrow.to_listener else f"◀─{label}── by nobody"
            _put(row, near + 1, said)
            return [Line("".join(row).rstrip())]
        found = []
        if len(label) + 4 > listener.middle - near:
            above = self._blank()
            _put(above, near + 2, label)
            found, label = [Line("".join(above).rstrip())], ""
        _across(row, near, listener.middle, "─", label)
        row[listener.middle - 1 if arrow.to_listener else near + 1] = (
            "▶" if arrow.to_listener else "◀"
        )
        return [*found, Line("".join(row).rstrip())]

    def _move(self, move: Move) -> list[Line]:
        found = []
        if self._lanes:
            row, source = self._blank(), self._lanes[move.source].middle
            if move.target:
                target = self._lanes[move.target].middle
                left, right = sorted((source, target))
                _across(row, left, right, "═", move.client)
                row[target - 1 if target > source else target + 1] = "▶" if target > source else "◀"
            else:
                _put(row, source + 1, f"══✕ {move.client}")
            found.append(Line("".join(row).rstrip(), "bold magenta"))
        return [*found, *self._wrapped(move.sentence, " · ", "magenta")]

    def _standing(self, frame: Frame, now: dict[str, ListenerStands]) -> list[Line]:
        columns: dict[str, list[str]] = {}
        for one in frame.listeners:
            before = self._stands.get(one.name)
            if before != one and (one.is_there or before is not None):
                said = words.of_standing(one)
                columns[one.name] = said or ["gone"]
        self._stands = now
        if not self._lanes:
            told = [f"{name}: {', '.join(said)}" for name, said in columns.items()]
            return [line for one in told for line in self._wrapped(one, "   ")]
        for client in frame.clients:
            before_it = self._clients.get(client.name, ClientStands(client.name))
            if client.name in self._lanes and before_it != client:
                columns[client.name] = [client.state or "nothing", client.where or " "]
        self._clients = {one.name: one for one in frame.clients}
        cells = {
            name: [part for line in said for part in self._lanes[name].fold(line)]
            for name, said in columns.items()
        }
        found = []
        for number in range(max(map(len, cells.values()), default=0)):
            row = self._blank()
            for name, said in cells.items():
                lane = self._lanes[name]
                row[lane.start : lane.start + lane.width - 1] = " " * (lane.width - 1)
                _put(row, lane.start, said[number] if number < len(said) else "")
            found.append(Line("".join(row).rstrip(), "green"))
        return found

    def _difference(self, step: int) -> list[Line]:
        differing = self._film.differing
        if step not in differing:
            return []
        theirs, ours = differing[step]
        first = " (the first difference)" if step == min(differing) else ""
        style = "bold red" if first else "red"
        return [
            *self._wrapped(f"{self._film.other}: {of_told(theirs)}{first}", " ≠ ", style),
            *self._wrapped(f"model: {of_told(ours)}", "   ", style),
        ]

    def _legend(self) -> list[Line]:
        found = self._wrapped(LEGEND, "", "dim")
        for row in rows_in(self._film):
            found += self._wrapped(f"{row}: {words.of_row(row)}.", "  ", "dim")
        return found


def rows_in(shown: Film) -> list[str]:
    """The rows that the film's migrations name, patches first, each once."""
    named = {row for frame in shown.frames for move in frame.moves for row in move.rows}
    return sorted(named, key=lambda row: (not row.endswith("/8"), row))


def compared(film: Film) -> str:
    """With what the film was compared, and with what result."""
    said = f"The model, profile {film.profile.name}."
    if film.why_not:
        return f"{said} Linux was not asked: {film.why_not}."
    if not film.other:
        return said
    steps = len(film.differences)
    if not steps:
        return f"{said} {film.other} tells all of it alike."
    return f"{said} {film.other} tells {steps} step{'s' * (steps > 1)} otherwise, marked ≠."


def of_told(one: Told) -> str:
    """All of a step in one line."""
    counted = [f"{number:+} {name}" for name, number in one.counted]
    return "; ".join([line.strip() for line in one.lines] + counted) or "nothing"


@dataclass(frozen=True, slots=True)
class _Lane:
    start: int
    width: int
    is_client: bool

    @property
    def middle(self) -> int:
        return self.start + 2

    def fold(self, said: str) -> list[str]:
        return textwrap.wrap(said, self.width - 1, break_on_hyphens=False) or [""]


def _lanes(shown: Film, width: int) -> dict[str, _Lane]:
    """Where each stands; no lanes at all where there is no room."""
    clients: tuple[str, ...] = shown.clients
    listeners = len(shown.listeners)
    if len(clients) * _CLIENT + listeners * _LISTENER > width:
        clients = (_TOGETHER,) if clients else ()
    if len(clients) * _CLIENT + listeners * _LISTENER > width or not listeners:
        return {}
    spare = width - len(clients) * _CLIENT - listeners * _LISTENER
    each = min(spare // (len(clients) + listeners), _MOST - _LISTENER)
    found, at = {}, 0
    for names, least, is_client in ((clients, _CLIENT, True), (shown.listeners, _LISTENER, False)):
        for name in names:
            found[name] = _Lane(at, least + each, is_client)
            at += least + each
    return found


def _put(row: list[str], at: int, said: str) -> None:
    said = said[: max(0, len(row) - at)]
    row[at : at + len(said)] = said


def _across(row: list[str], left: int, right: int, stroke: str, label: str) -> None:
    """A line from one lane to another with a label in its middle."""
    for at in range(left + 1, right):
        row[at] = stroke
    if label:
        _put(row, left + 1 + (right - left - 1 - len(label)) // 2, label)
