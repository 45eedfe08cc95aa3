"""The page and the pictures: whole, alone, and deaf to what servers say."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from segue.observe.counters import Counters
from segue.probe import drawing, page, screen
from segue.probe.during import Command
from segue.probe.fates import Fate
from segue.probe.kernel import Kernel
from segue.probe.result import Tally
from segue.probe.session import Progress, Report
from segue.probe.timeline import Span, Timeline, timeline_of

EVIL = "<script>alert('x')</script>[red]&"


def report(*, evil: str = "", lost: bool = True, span: bool = True) -> Report:
    tally = Tally(0.0)
    for number in range(200):
        at = number / 20
        if lost and 4 <= at < 5:
            tally.failed(Fate.REFUSED, at, at + 0.001, reused=False, note=f"ECONNREFUSED {evil}")
        else:
            tally.answered(at, at + 0.002 + number / 1e5)
            tally.version(evil or ("old" if at < 4 else "new"), at)
            tally.statuses[200] += 1
    result = tally.result(target="t", load="20 connections/s", began=0, until=10, events=False)
    return Report(
        f"http://127.0.0.1/{evil}",
        result,
        timeline_of(tally.rows(), 10, Span(4.0, 4.2, 6.0) if span else None),
        Kernel(Counters(out_rsts=20), {"NO_SOCKET": 19} if lost else {}, int(lost), silent=evil),
        Command(f"restart {evil}", 4.0, 4.2, 1, output=f"{evil}\n") if span else None,
        (f"note {evil}",) if evil else (),
    )


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in {"meta", "rect", "line", "polyline", "circle"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_alone() -> None:
    """No script, no link, no image, no address of anything: it opens without a network."""
    text = page.render(report())
    read = Page(text)
    assert not read.open
    assert not set(read.tags) & {"script", "link", "img", "iframe", "a", "object", "base"}
    assert not [name for name, _ in read.attributes if name in {"src", "href", "onload", "style"}]
    assert not re.search(r"url\(|@import", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_what_is_wider_than_a_telephone_scrolls_by_itself() -> None:
    """Every table and picture has a frame of its own, and no picture shrinks to nothing."""
    text = page.render(report())
    assert text.count('<div class="scroll"><svg ') == text.count("<svg ") == 2
    assert text.count('<div class="scroll"><table>') == text.count("<table>")
    assert re.search(r"svg \{[^}]*min-width: \d+px", text)


def test_the_page_says_what_the_table_says() -> None:
    """Verdict, fates, phases, versions, counters, causes, and how the command ended."""
    text = Page(page.render(report())).text
    for part in (
        "20 lost", "refused", "before", "restart", "after", "old", "new", "out rsts",
        "NO_SOCKET", "no listener", "(no trace)", "the command exited with 1", "4.200 s",
    ):  # fmt: skip
        assert part in text
    good = Page(page.render(report(lost=False, span=False))).text
    assert "none lost" in good
    assert "No connection of the probe was reset." in good


def test_what_others_wrote_is_escaped() -> None:
    """A URL, a version, a note or a command's output cannot become a part of the page."""
    read = Page(page.render(report(evil=EVIL)))
    assert "script" not in read.tags
    assert read.text.count(EVIL) >= 5


def test_what_others_wrote_is_no_markup_on_a_terminal() -> None:
    """Square brackets are shown as they are."""
    console = Console(file=io.StringIO(), width=200)
    screen.draw(report(evil=EVIL), console)
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert said.count("[red]&") >= 5


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_loses_no_digit(width: int) -> None:
    """No figure is cut off, and the bars of the timeline stay on their lines, under each other."""
    console = Console(file=io.StringIO(), width=width)
    screen.draw(report(), console)
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "…" not in said
    rows = [row for row in said.splitlines() if row.startswith(("slowest ", "lost  ", "restart  "))]
    bars = [row.split("|")[1] for row in rows if row.count("|") == 2]
    assert len(bars) == 3
    assert len({len(one) for one in bars}) == 1
    assert all(row.rsplit("|", 1)[1].strip() for row in rows if "|" in row)


@pytest.mark.parametrize("made", [report(), report(lost=False, span=False)])
def test_the_pictures_are_well_formed_and_inside_their_frame(made: Report) -> None:
    """XML that parses; no bar or line leaves the picture."""
    for drawn in (drawing.losses(made.timeline), drawing.latency(made.timeline)):
        root = ET.fromstring(drawn)
        for one in root.iter("rect"):
            x, y, width, height = (float(one.attrib[key]) for key in ("x", "y", "width", "height"))
            assert 0 <= x <= x + width <= drawing.WIDTH
            assert 0 <= y <= y + height <= drawing.HEIGHT
        for line in root.iter("polyline"):
            for pair in line.attrib["points"].split():
                x, y = map(float, pair.split(","))
                assert 0 <= x <= drawing.WIDTH
                assert 0 <= y <= drawing.HEIGHT


def test_the_line_of_the_restart_tells_the_command_from_what_follows() -> None:
    """What counts as the restart is longer than its command, which has marks of its own."""
    found = timeline_of([(at / 10, 0.01, Fate.OK) for at in range(100)], 10.0, Span(2.5, 4.5, 9.5))
    said = screen.strip(found, 10)[-1]
    assert said == "restart   |..###-----| 2.5 to 4.5 s, then 5 s"


def test_a_run_without_answers_has_pictures_too() -> None:
    """Nothing to draw is no reason to fail."""
    empty: Timeline = timeline_of([], 0.0, None)
    for drawn in (drawing.losses(empty), drawing.latency(empty)):
        ET.fromstring(drawn)
    assert screen.strip(empty) == []


def test_a_gap_is_a_gap_in_the_line() -> None:
    """The latency of nothing is not drawn: the line is in two parts."""
    root = ET.fromstring(drawing.latency(report().timeline))
    medians = [one for one in root.iter("polyline") if one.attrib["class"] == "line p50"]
    assert len(medians) == 2


@pytest.mark.parametrize(
    ("high", "marks"),
    [(1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (7, [0, 2, 4, 6, 8]), (950, [0, 200, 400, 600, 800, 1000])],
)
def test_marks_are_round_numbers(high: float, marks: list[float]) -> None:
    """As a reader would choose them, and the last is not below the highest value."""
    assert drawing.steps(high) == marks


def test_the_line_of_progress() -> None:
    """Time, answers, losses, and what the command does."""
    assert screen.line(Progress(3.0, 12, 10, 2, "steady")) == (
        "  3.0 s  10 answered  2 lost  steady"
    )
