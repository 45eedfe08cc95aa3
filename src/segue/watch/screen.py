"""The application: draws samples, and sends the orders that its keys ask for, after a question."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import time
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import Footer, Input, Static
from textual.worker import get_current_worker

from segue.errors import SegueError
from segue.supervisor.control import client
from segue.supervisor.control.instances import Running
from segue.supervisor.control.requests import (
    Promote,
    Request,
    Restart,
    Rollback,
    Scale,
    Shift,
)
from segue.visible import visible
from segue.watch.drawing import Line, draw
from segue.watch.feed import Feed
from segue.watch.picture import Picture
from segue.watch.sample import Rates, Sample

_SAID_SECONDS = 8.0  # for which the last answer to an order stays on the screen
_CHROME = 2  # lines of the footer and of the answer
_LEAST = 6  # lines of an instance; where there are fewer, a scroll bar takes some columns
_BAR = 2


class _Frame(NamedTuple):
    """What an instance is drawn for."""

    width: int
    height: int
    mark: str  # before its name


class _Sure(ModalScreen[bool]):
    """Asks before an order is sent."""

    CSS = """
    _Sure { align: center middle; }
    _Sure Static { width: auto; max-width: 76; padding: 1 2; border: round $warning;
        background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape", "answer(False)", "no"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question."""
        yield Static(Text(f"{self._question}\n\n[y] yes   [n] no"))

    def action_answer(self, answer: bool) -> None:  # noqa: FBT001  textual passes it by position
        """The key was one of the two."""
        self.dismiss(answer)


class _Number(ModalScreen[str]):
    """Asks for a number."""

    CSS = """
    _Number { align: center middle; }
    _Number Input { width: 50; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave")]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """One line to write into."""
        made = Input(placeholder=self._question, type="number")
        made.border_title = self._question
        yield made

    def on_input_submitted(self, given: Input.Submitted) -> None:
        """Enter."""
        self.dismiss(given.value)

    def action_leave(self) -> None:
        """Escape."""
        self.dismiss("")


class Watch(App[None]):
    """The screen; ``every`` is the shortest time between two looks at one instance, in seconds."""

    CSS = """
    Screen { background: transparent; }
    #said { height: 1; visibility: hidden; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "restart", "restart"),
        Binding("c", "canary", "canary"),
        Binding("s", "shift", "shift"),
        Binding("p", "promote", "promote"),
        Binding("b", "rollback", "roll back"),
        Binding("plus", "scale(1)", "more", key_display="+"),
        Binding("minus", "scale(-1)", "fewer", key_display="-"),
        Binding("tab", "next", "next", show=False, priority=True),
        Binding("q", "quit", "quit"),
    ]

    def __init__(
        self,
        instances: Sequence[Running],
        every: float,
        ask: Callable[[Running, Request, Callable[[str], None]], dict[str, object]] = client.ask,
        *,
        ascii_only: bool = False,
    ) -> None:
        super().__init__(ansi_color=True)
        self.feeds = [Feed(one) for one in instances]
        self.samples: dict[int, tuple[Sample, Rates]] = {}
        self.picture = Picture()
        self._drawn: list[list[Line]] = [[] for _ in instances]
        self.chosen = 0
        self._every, self._ask, self._ascii_only = every, ask, ascii_only
        self._forget: Timer | None = None

    def compose(self) -> ComposeResult:
        """What is known of each instance, the last answer, and the keys."""
        yield self.picture
        yield Static(id="said")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to look."""
        # What was made until now stays: no look is to pay for searching it for garbage.
        gc.freeze()
        self._here = asyncio.get_running_loop(), contextvars.copy_context()
        self._follow()

    @work(thread=True)
    def _follow(self) -> None:
        """In a thread of its own: an answer may take its time."""
        mine = get_current_worker()
        while not mine.is_cancelled:
            began = time.monotonic()
            for number, feed in enumerate(self.feeds):
                if time.monotonic() >= feed.due:
                    self.samples[number] = feed.look()
                    self._drawn_apart(number)
            time.sleep(max(0.0, began + self._every - time.monotonic()))

    def _drawn_apart(self, number: int) -> None:
        """Draw in the thread.  To wake the other one takes as long, and at rest nothing is new."""
        frame = self._frame(number)
        lines = self._lines(number, frame)
        if lines != self._drawn[number] and self.is_running:
            loop, context = self._here
            loop.call_soon_threadsafe(self._show, number, frame, lines, context=context)

    def _show(self, number: int, frame: _Frame, lines: list[Line]) -> None:
        now = self._frame(number)
        self._drawn[number] = lines if frame == now else self._lines(number, now)
        self.picture.show([line for one in self._drawn for line in one])

    def on_resize(self) -> None:
        """Draw what is known for the new size."""
        for number in list(self.samples):  # the thread may add one
            frame = self._frame(number)
            self._show(number, frame, self._lines(number, frame))

    def _frame(self, number: int) -> _Frame:
        (width, height), several = self.size, len(self.feeds) > 1
        room = (height - _CHROME) // len(self.feeds)
        mark = "" if not several else "> " if number == self.chosen else "  "
        return _Frame(width - (_BAR if room < _LEAST else 0), max(_LEAST, room), mark)

    def _lines(self, number: int, frame: _Frame) -> list[Line]:
        now, speeds = self.samples[number]
        lines = draw(
            now, speeds, frame.width, frame.height, frame.mark, ascii_only=self._ascii_only
        )
        if not frame.mark.strip():
            return lines
        return [tuple((text, f"{style} reverse") for text, style in line) for line in lines]

    # Orders

    def action_next(self) -> None:
        """The next instance is the one that orders are for."""
        self.chosen = (self.chosen + 1) % len(self.feeds)
        self.on_resize()

    def action_restart(self) -> None:
        """A new generation."""
        self._sure("Restart {}: start new workers, and stop the old ones when they are quiet?",
                   Restart(wait=False))  # fmt: skip

    def action_canary(self) -> None:
        """A new generation with a part of new connections."""

        def given(text: str | None) -> None:
            if text:
                self._made("Start a canary of {} with " + text + " % of new connections?",
                           lambda: Restart(wait=False, canary=float(text)))  # fmt: skip

        self.push_screen(_Number("percent for the canary"), given)

    def action_shift(self) -> None:
        """Another part for the canary."""

        def given(text: str | None) -> None:
            if text:
                self._made("Give the canary of {} " + text + " % of new connections?",
                           lambda: Shift(percent=float(text)))  # fmt: skip

        self.push_screen(_Number("percent for the newest generation"), given)

    def action_promote(self) -> None:
        """The canary gets all new connections."""
        self._sure("Promote the canary of {}: give it all new connections?", Promote())

    def action_rollback(self) -> None:
        """Back to the generation before."""
        self._sure("Roll {} back to the generation before?", Rollback())

    def action_scale(self, more: int) -> None:
        """One worker more or less."""
        found = self.samples.get(self.chosen)
        status = found[0].status if found else None
        if status is not None:
            size = status.size + more
            self._made(f"Run {size} workers of {{}} from now on?", lambda: Scale(size))

    def _made(self, question: str, make: Callable[[], Request]) -> None:
        try:
            self._sure(question, make())
        except (SegueError, ValueError) as error:
            self._tell(str(error))

    def _sure(self, question: str, request: Request) -> None:
        feed = self.feeds[self.chosen]
        found = self.samples.get(self.chosen)
        name = found[0].name if found else feed.running.name

        def answered(yes: bool | None) -> None:  # noqa: FBT001  textual passes it by position
            if yes:
                self._order(feed.running, request)

        self.push_screen(_Sure(question.format(name)), answered)

    @work(thread=True)
    def _order(self, running: Running, request: Request) -> None:
        try:
            answer = self._ask(running, request, lambda _: None)
        except (SegueError, OSError) as error:
            said = str(error)
        else:
            said = str(answer.get("error") or f"{request.verb}: done, as far as it is an order")
        self.call_from_thread(self._tell, said)

    def _tell(self, text: str) -> None:
        said = self.query_one("#said", Static)
        said.update(Text(visible(text), style="yellow"))
        said.visible = True  # a widget without a text would be drawn with each look
        if self._forget is not None:
            self._forget.stop()
        self._forget = self.set_timer(_SAID_SECONDS, lambda: setattr(said, "visible", False))
