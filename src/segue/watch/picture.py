"""A widget of lines, of which some change at each look.

Textual renders and sends to the terminal what differs from the lines before, and nothing else.  Its
Static would lay out and render the whole screen again.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from segue.watch.drawing import Line, as_text

_MOST = 2000  # lines that are kept as they have been rendered


class _Styles(dict[str, Style]):
    """What each style that has been drawn is upon ``base``."""

    def __init__(self, base: Style) -> None:
        super().__init__()
        self.base, self.blank = base, Style(bgcolor=base.bgcolor)

    def __missing__(self, name: str) -> Style:
        self[name] = found = self.base + Style.parse(name)
        return found


class Picture(ScrollView):
    """Shows the lines that it was given last, and scrolls where they are too many."""

    DEFAULT_CSS = "Picture { overflow-x: hidden; }"

    def __init__(self) -> None:
        super().__init__()
        self._lines: Sequence[Line] = ()
        self._strips: dict[Line, Strip] = {}  # as lines have been rendered; many come again
        self._styles: _Styles | None = None

    @property
    def plain(self) -> str:
        """The text."""
        return as_text(self._lines).plain

    def show(self, lines: Sequence[Line]) -> None:
        """Show these."""
        before, self._lines = self._lines, lines
        if len(before) != len(lines):
            self.virtual_size = Size(0, len(lines))
            self.refresh()
            return
        new = [at for at, line in enumerate(lines) if line != before[at]]
        if new:
            width, first = self.size.width, self.scroll_offset.y
            self.refresh(*[Region(0, at - first, width, number) for at, number in _runs(new)])

    def notify_style_update(self) -> None:
        """Colours may be others."""
        self._strips.clear()
        self._styles = None
        super().notify_style_update()

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        """The selected text."""
        return selection.extract(self.plain), "\n"

    def render_line(self, y: int) -> Strip:
        """A line with the places in it, by which text is selected."""
        at = y + self.scroll_offset.y
        return self._rendered(range(at, at + 1))[0].apply_offsets(0, at)

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines for the screen, without these places: they take longer than all the rest."""
        first = self.scroll_offset.y + crop.y
        found = self._rendered(range(first, first + crop.height))
        for one in self.get_line_filters():
            found = [strip.apply_filter(one, self.background_colors[1]) for strip in found]
        if crop.column_span != (0, self.size.width):
            found = [strip.crop(*crop.column_span) for strip in found]
        return found

    def _rendered(self, numbers: range) -> list[Strip]:
        """These lines, each as wide as the widget."""
        width, selection = self.size.width, self.text_selection
        styles = self._styles = self._styles or _Styles(self.visual_style.rich_style)
        if len(self._strips) > _MOST:
            self._strips.clear()
        found = []
        for y in numbers:
            line = self._lines[y] if y < len(self._lines) else ()
            if selection and (span := selection.get_span(y)):
                pieces = [
                    (text, styles.base + style) for text, style in self._selected(line, *span)
                ]
                found.append(_strip(pieces, width, styles.blank))
                continue
            strip = self._strips.get(line)
            if strip is None or strip.cell_length != width:
                pieces = [(text, styles[style]) for text, style in line]
                strip = self._strips[line] = _strip(pieces, width, styles.blank)
            found.append(strip)
        return found

    def _selected(self, line: Line, start: int, end: int) -> list[tuple[str, Style]]:
        text = as_text([line])
        how = self.screen.get_component_rich_style("screen--selection")
        text.stylize(how, start, len(text) if end == -1 else end)
        return [(one.text, one.style or Style()) for one in text.render(self.app.console)]


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """The first and the length of each run of numbers that follow each other."""
    found: list[tuple[int, int]] = []
    for one in numbers:
        if found and sum(found[-1]) == one:
            first, length = found.pop()
            found.append((first, length + 1))
        else:
            found.append((one, 1))
    return found


def _strip(pieces: list[tuple[str, Style]], width: int, blank: Style) -> Strip:
    segments = [Segment(text, style) for text, style in pieces if text]
    left = width - sum([len(one) if one.isascii() else cell_len(one) for one, _ in pieces])
    if left > 0:
        segments.append(Segment(" " * left, blank))
    strip = Strip(segments, width - min(left, 0))
    return strip.crop(0, width) if left < 0 else strip
