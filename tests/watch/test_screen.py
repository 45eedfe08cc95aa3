"""The screen of segue watch, driven by its keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.waiting import PATIENCE
from tests.watch.test_drawing import NOW, STATUS
from textual.pilot import Pilot
from textual.widgets import Input, Static

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
from segue.watch import feed
from segue.watch.screen import Watch

ONE, TWO = Running("shop", "/run/shop.sock", 0), Running("till", "/run/till.sock", 0)


class Driven:
    """A screen whose instances answer, and what was asked of them."""

    def __init__(self, *instances: Running, error: str = "") -> None:
        self.asked: list[tuple[Running, Request]] = []
        self._error = error
        self.app = Watch(instances or (ONE,), 0.1, self._ask)

    def _ask(
        self, running: Running, request: Request, say: Callable[[str], None]
    ) -> dict[str, Any]:
        self.asked.append((running, request))
        if self._error:
            raise SegueError(self._error)
        return {"exit": 0}

    def run(self, drive: Callable[[Pilot[None]], Awaitable[None]], columns: int = 80) -> None:
        async def driven() -> None:
            async with self.app.run_test(size=(columns, 24)) as pilot:
                await until(pilot, lambda: len(self.app.samples) == len(self.app.feeds))
                await drive(pilot)

        asyncio.run(driven())

    @property
    def marks(self) -> list[str]:
        lines = self.app.picture.plain.splitlines()
        return [line.partition("  serving")[0] for line in lines if "generation 2  engine" in line]

    @property
    def said(self) -> str:
        return str(self.app.query_one("#said", Static).render())


async def until(pilot: Pilot[None], true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        await pilot.pause()


@pytest.fixture(autouse=True)
def _answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look finds the same."""
    monkeypatch.setattr(client, "status", lambda *_: STATUS)
    monkeypatch.setattr(feed, "read", lambda _: list(NOW.events))


KEYS: tuple[tuple[tuple[str, ...], Request], ...] = (
    (("r",), Restart(wait=False)),
    (("p",), Promote()),
    (("b",), Rollback()),
    (("plus",), Scale(3)),
    (("minus",), Scale(1)),
    (("c", "1", "0", "enter"), Restart(wait=False, canary=10.0)),
    (("s", "5", "0", "enter"), Shift(50.0)),
)


def test_each_key_sends_its_order_once_it_is_confirmed() -> None:
    """And nothing before, nor after a no."""
    driven = Driven()

    async def drive(pilot: Pilot[None]) -> None:
        for answer in ("n", "escape"):
            await pilot.press("r")
            await pilot.pause()
            await pilot.press(answer)
            await pilot.pause()
        assert driven.asked == []
        for number, (keys, _) in enumerate(KEYS):
            await pilot.press(*keys)
            await pilot.pause()
            assert len(driven.asked) == number
            await pilot.press("y")
            await until(pilot, lambda number=number: len(driven.asked) > number)  # type: ignore[misc]
        await until(pilot, lambda: "done" in driven.said)

    driven.run(drive)
    assert driven.asked == [(ONE, request) for _, request in KEYS]


def test_a_number_that_cannot_be_is_refused_here() -> None:
    """With the sentence that the command has."""
    driven = Driven()

    async def drive(pilot: Pilot[None]) -> None:
        await pilot.press("s", "2", "0", "0", "enter")
        await until(pilot, lambda: "between 0 and 100" in driven.said)
        await pilot.press("s")
        await pilot.pause()
        assert isinstance(driven.app.focused, Input)
        await pilot.press("escape")
        await pilot.pause()
        assert driven.app.focused is None or not isinstance(driven.app.focused, Input)

    driven.run(drive)
    assert driven.asked == []


def test_a_refusal_is_shown() -> None:
    """The sentence of the supervisor."""
    driven = Driven(error="there is no canary to promote")

    async def drive(pilot: Pilot[None]) -> None:
        await pilot.press("p")
        await pilot.pause()
        await pilot.press("y")
        await until(pilot, lambda: "no canary" in driven.said)

    driven.run(drive)


def test_several_instances_share_the_screen() -> None:
    """Orders go to the one that is marked; tab marks the next."""
    driven = Driven(ONE, TWO)

    async def drive(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: len(driven.marks) == 2)
        assert driven.marks == ["> shop", "  shop"]
        await pilot.press("tab", "r")
        await pilot.pause()
        await pilot.press("y")
        await until(pilot, lambda: driven.asked)
        assert driven.marks == ["  shop", "> shop"]

    driven.run(drive, columns=120)
    assert driven.asked == [(TWO, Restart(wait=False))]
