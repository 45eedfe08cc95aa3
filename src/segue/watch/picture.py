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


class Picture(ScrollView):
    """Shows the lines that it was given last, and scrolls where they are too many."""

    DEFAULT_CSS = "Picture { overflow-x: hidden; }"

    def __init__(self) -> None:
        super().__init__()
        self._lines: Sequence[Line] = ()
        self._strips: dict[int, Strip] = {}  # of these lines, those that are rendered

    @property
    def plain(self) -> str:
        """The text."""
        return as_text(self._lines).plain

    def show(self, lines: Sequence[Line]) -> None:
        """Show these."""
        before, self._lines = self._lines, lines
        if len(before) != len(lines):
            self._strips.clear()
            self.virtual_size = Size(0, len(lines))
            self.refresh()
            return
        new = [at for at, line in enumerate(lines) if line != before[at]]
        if new:
            width, first = self.size.width, self.scroll_offset.y
            for at in new:
                self._strips.pop(at, None)
            self.refresh(*[Region(0, at - first, width, 1) for at in new])

    def notify_style_update(self) -> None:
        """Colours may be others."""
        self._strips.clear()
        super().notify_style_update()

    def selection_updated(self, selection: Selection | None) -> None:
        """What is selected looks so."""
        self._strips.clear()
        super().selection_updated(selection)

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
        width, selection, base = self.size.width, self.text_selection, self.visual_style.rich_style
        styles: dict[str, Style] = {}
        for y in numbers:
            there = self._strips.get(y)
            if there is not None and there.cell_length == width:
                continue
            line = self._lines[y] if y < len(self._lines) else ()
            segments, left = [], width
            for text, name in line:
                if not text:
                    continue
                style = styles.get(name)
                if style is None:
                    style = styles[name] = base + Style.parse(name)
                segments.append(Segment(text, style))
                left -= cell_len(text)
            if selection and (span := selection.get_span(y)):
                segments = self._selected(line, base, *span)
            if left > 0:
                segments.append(Segment(" " * left, Style(bgcolor=base.bgcolor)))
            strip = Strip(segments, width - min(left, 0))
            self._strips[y] = strip.crop(0, width) if left < 0 else strip
        return [self._strips[y] for y in numbers]

    def _selected(self, line: Line, base: Style, start: int, end: int) -> list[Segment]:
        text = as_text([line])
        how = self.screen.get_component_rich_style("screen--selection")
        text.stylize(how, start, len(text) if end == -1 else end)
        rendered = text.render(self.app.console)
        return [Segment(one.text, base + (one.style or Style())) for one in rendered]
