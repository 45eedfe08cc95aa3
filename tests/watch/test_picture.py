"""The lines of the screen: what is rendered again and what is selected, and too many of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot
from textual.strip import Strip

from segue.watch.drawing import Line
from segue.watch.picture import Picture


class Shown(App[None]):
    """A screen with nothing else."""

    def __init__(self, *lines: Line) -> None:
        super().__init__()
        self.picture = Picture()
        self._lines = lines

    def compose(self) -> ComposeResult:
        yield self.picture

    def on_mount(self) -> None:
        self.picture.show(self._lines)

    def run_with(self, drive: Callable[[Pilot[None]], Awaitable[None]]) -> None:
        async def driven() -> None:
            async with self.run_test(size=(20, 4)) as pilot:
                await pilot.pause()
                await drive(pilot)

        asyncio.run(driven())

    def strips(self) -> list[Strip]:
        return self.picture.render_lines(Region(0, 0, 20, 4))


def line(text: str, style: str = "") -> Line:
    return ((text, style),)


def test_a_line_that_stays_is_not_rendered_again() -> None:
    """The others are."""
    shown = Shown(line("one"), line("two", "red"), line("three"))

    async def drive(pilot: Pilot[None]) -> None:
        before = shown.strips()
        shown.picture.show([line("one"), line("2", "red"), line("three")])
        await pilot.pause()
        after = shown.strips()
        assert [one is other for one, other in zip(before, after, strict=True)] == [
            *(True, False, True, True),
        ]
        assert [strip.text.rstrip() for strip in after] == ["one", "2", "three", ""]

    shown.run_with(drive)


def test_text_is_selected_with_the_mouse() -> None:
    """And what is selected looks so."""
    shown = Shown(line("one"), line("two"), line("three"))

    async def drive(pilot: Pilot[None]) -> None:
        before = shown.strips()
        await pilot.mouse_down(offset=(1, 0))
        await pilot.hover(offset=(2, 1))
        await pilot.mouse_up(offset=(2, 1))
        await pilot.pause()
        assert (shown.screen.get_selected_text() or "").startswith("ne\ntw")
        assert [one == other for one, other in zip(before, shown.strips(), strict=True)] == [
            *(False, False, True, True),
        ]

    shown.run_with(drive)


def test_lines_are_scrolled_where_they_are_too_many() -> None:
    """Those below are drawn from the first one that is seen."""
    shown = Shown(*(line(f"line {number}") for number in range(9)))

    async def drive(pilot: Pilot[None]) -> None:
        shown.picture.scroll_to(y=3, animate=False)
        await pilot.pause()
        assert [strip.text[:6] for strip in shown.strips()] == [f"line {n}" for n in (3, 4, 5, 6)]
        shown.picture.show([line(f"LINE {number}") for number in range(9)])
        await pilot.pause()
        assert [strip.text[:6] for strip in shown.strips()] == [f"LINE {n}" for n in (3, 4, 5, 6)]
        assert shown.picture.render_line(0).text[:6] == "LINE 3"

    shown.run_with(drive)
