"""The application: draws samples, and sends the orders that its keys ask for, after a question."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
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
from segue.watch.drawing import draw
from segue.watch.feed import Feed
from segue.watch.sample import Sample

_SAID_SECONDS = 8.0  # for which the last answer to an order stays on the screen
_CHROME = 2  # lines of the footer and of the answer


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
    #said { height: 1; }
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
        self.samples: dict[int, tuple[Sample, Sample | None]] = {}
        self._drawn: dict[int, Text] = {}
        self.chosen = 0
        self._every, self._ask, self._ascii_only = every, ask, ascii_only
        self._said_until = 0.0

    def compose(self) -> ComposeResult:
        """A part for each instance, the last answer, and the keys."""
        with VerticalScroll():
            for number in range(len(self.feeds)):
                yield Static(id=f"instance{number}")
        yield Static(id="said")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to look."""
        self._follow()

    @work(thread=True)
    def _follow(self) -> None:
        """In a thread of its own: an answer may take its time."""
        mine = get_current_worker()
        while not mine.is_cancelled:
            for number, feed in enumerate(self.feeds):
                if time.monotonic() >= feed.due:
                    found = feed.look()
                    if self.is_running:
                        self.call_from_thread(self._show, number, found)
            time.sleep(self._every)

    def _show(self, number: int, found: tuple[Sample, Sample | None]) -> None:
        self.samples[number] = found
        self._draw(number)
        if self._said_until and time.monotonic() > self._said_until:
            self._said_until = 0.0
            self.query_one("#said", Static).update("")

    def on_resize(self) -> None:
        """Draw what is known for the new size."""
        for number in self.samples:
            self._draw(number)

    def _draw(self, number: int) -> None:
        height = max(6, (self.size.height - _CHROME) // len(self.feeds))
        drawn = draw(*self.samples[number], self.size.width, height, ascii_only=self._ascii_only)
        if len(self.feeds) > 1:
            mark = "> " if number == self.chosen else "  "
            drawn = Text(mark, style="reverse" if number == self.chosen else "") + drawn
        # Laying the screen out again takes longer than the look, and at rest nothing has changed.
        if drawn != self._drawn.get(number):
            self._drawn[number] = drawn
            self.query_one(f"#instance{number}", Static).update(drawn)

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
        self._said_until = time.monotonic() + _SAID_SECONDS
        self.query_one("#said", Static).update(Text(visible(text), style="yellow"))
