"""What ``segue watch`` costs over a group of 64 listeners, by its looks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

from bench.attached import Attached
from bench.case import Case, Tally
from bench.case import Sample as Measured
from bench.cases.idle import listeners_command
from bench.harness import Load, Server, free_port
from bench.rounds import told
from bench.table import Column, Row
from segue.supervisor.control.instances import Running
from segue.watch.feed import Feed
from segue.watch.sample import Rates, Sample

HERTZ = 10  # looks a second, at most
SIZES = ((80, 24), (160, 50))


@dataclass(slots=True)
class _Counted(Feed):
    """A feed that counts its looks, and looks again at once however slow the answer was."""

    looks: int = 0

    def look(self) -> tuple[Sample, Rates]:
        """As Feed."""
        found = Feed.look(self)
        self.looks, self.due = self.looks + 1, 0.0
        return found


def measure(
    *, listeners: int = 64, seconds: float = 10.0, repetitions: int = 3, rate: int = 200
) -> list[Row]:
    """The screen at two sizes, in this process and without a terminal to write to.

    At rest, where no line changes, and with so many new connections a second.
    """
    tally = Tally()
    for load in (0, rate):
        for size in SIZES:
            what = f"{load} connections/s" if load else "at rest"
            name = f"{listeners} listeners, {size[0]}x{size[1]}, {what}"
            # A server each: what earlier connections left behind makes the next answers slower.
            _look(tally, name, listeners, size, load, seconds, repetitions)
    return tally.rows()


def _look(
    tally: Tally,
    name: str,
    listeners: int,
    size: tuple[int, int],
    rate: int,
    seconds: float,
    repetitions: int,
) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(Server(listeners_command(port, listeners), port))
        group = stack.enter_context(Attached(port))
        group.wait_ready(listeners)
        if rate:
            load = Load(port, "--rate", str(rate))
            stack.callback(load.stop)
        for _ in range(repetitions):
            sample = asyncio.run(_screen(f"{group.directory}/bench.sock", size, seconds))
            tally.add(name, sample)
            told(name, sample)


async def _screen(control: str, size: tuple[int, int], seconds: float) -> Measured:
    from segue.watch.screen import Watch  # noqa: PLC0415  an extra

    app = Watch([Running("", control, None)], 1 / HERTZ)
    feed = _Counted(Running("", control, None))
    app.feeds[:] = [feed]
    async with app.run_test(size=size) as pilot:
        await pilot.pause(1.0)
        looks, used, begun = feed.looks, time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        looks, used = feed.looks - looks, time.process_time() - used
        pace = looks / (time.monotonic() - begun)
    each = used / max(1, looks)
    return Measured({"look_ms": 1000 * each, "core_percent": 100 * HERTZ * each, "pace": pace}, {})


CASE = Case(
    "watch",
    "What segue watch costs",
    "The screen over 64 listeners that segue attach follows, at rest and under a light load, under"
    " which most lines change once a second: the processor time of its process by its looks, and"
    f" what {HERTZ} looks a second make of it.",
    measure,
    (
        Column("look_ms", "ms a look", digits=2),
        Column("core_percent", f"% of a core at {HERTZ} a second", digits=2),
        Column("pace", "looks a second here", digits=1),
    ),
    quick={"listeners": 16, "seconds": 2.0},
)
