"""A sample as lines: what fits, what comes first, and what others have written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from segue.supervisor.control.status import FrontStatus, Status, WorkerStatus
from segue.supervisor.lifecycle.chronicle import Event
from segue.watch.drawing import as_text, bar, draw
from segue.watch.sample import Rates, Sample, rates


def worker(number: int, **more: object) -> WorkerStatus:
    values: dict[str, object] = {"stage": "serving", "share": 50.0, **more}
    return WorkerStatus(generation=2, id=number, pid=100 + number, age=1.0, **values)  # type: ignore[arg-type]


FRONT = FrontStatus(
    name="web", address="127.0.0.1:8080", listeners=2, half_open=1,
    counts={"new": 100, "request": 5, "child": 5}, by_hash=3,
)  # fmt: skip
STATUS = Status(
    name="shop", pid=70, phase="serving", engine="migrate", working=2, newcomer=None, size=2,
    moved=4, rescued=3, cut=5, carried=9, carry="app", fronts=(FRONT,),
    workers=(worker(3, queue=8, connections=7, new=40), worker(4, connections=None, new=60)),
)  # fmt: skip
EVENTS = (
    Event(key="a", kind="restart", at=0.0, what="restart to generation 2", result="served",
          stages={"starting": 1.5}, counts={"moved": 4}),
    Event(key="b", kind="crash", at=1.0, what="worker 2.3 \x1b[2J was killed"),
)  # fmt: skip
NOW = Sample("shop", 12.0, 0.0, STATUS, EVENTS)
LATER = replace(
    NOW,
    at=14.0,
    status=replace(
        STATUS,
        fronts=(replace(FRONT, counts={"new": 300, "request": 9, "child": 5}),),
        workers=(worker(3, new=140), worker(4, new=160)),
    ),
)


def lines(
    now: Sample, before: Sample | None = None, width: int = 80, height: int = 24
) -> list[str]:
    found = as_text(draw(now, rates(now, before), width, height)).plain
    return [line.rstrip() for line in found.splitlines()]


def test_a_screen_has_the_instance_its_workers_and_what_happened() -> None:
    """In this order, on a terminal of 80 columns."""
    found = lines(NOW)
    assert found[0] == "shop  serving  generation 2  engine migrate  pid 70"
    assert found[1].split() == [
        "worker",
        "stage",
        "share",
        "queue",
        "held",
        *["new/s", "moved", "here", "pid"],
    ]
    assert found[2].split() == ["2.3", "serving", "50", "%", "8", "█" * 8, "7", "0", "103"]
    assert found[3].split() == ["2.4", "serving", "50", "%", "0", "?", "0", "104"]
    assert found[4] == "127.0.0.1:8080  2 listeners, 1 half-open"
    assert found[5] == "so far: 4 moved, 3 rescued, 9 carried (app), 5 cut, 0 lost in a carry"
    assert found[7].endswith("restart to generation 2: served 1.50 s (4 moved)")
    assert found[8].endswith("worker 2.3 \\x1b[2J was killed")


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("height", [6, 10, 24, 60])
@pytest.mark.parametrize("workers", [0, 1, 64, 512])
def test_it_fits_any_terminal(width: int, height: int, workers: int) -> None:
    """However many workers there are."""
    status = replace(STATUS, workers=tuple(worker(n, queue=n) for n in range(workers)))
    found = lines(replace(NOW, status=status), None, width, height)
    assert len(found) <= height
    assert max(len(line) for line in found) <= width


def test_workers_for_which_there_is_no_room_are_the_calm_ones() -> None:
    """How many there are, and how many wait there, is said."""
    others = tuple(worker(n) for n in range(5, 60))
    stalled = worker(60, stalled=3.0, queue=2)
    found = lines(replace(NOW, status=replace(STATUS, workers=(*others, stalled))))
    assert any(line.startswith("2.60") for line in found)
    assert any("more workers, where 0 connections wait" in line for line in found)
    assert any("worker 2.60 has accepted nothing for 3.0 s" in line for line in found)


def test_what_is_wrong_comes_first() -> None:
    """Before the workers."""
    status = replace(STATUS, outage="no worker has served for 9 s", failure="the restart failed")
    assert lines(replace(NOW, status=status))[1:3] == [
        "no worker has served for 9 s",
        "the restart failed",
    ]


def test_a_supervisor_that_does_not_answer_is_shown_with_the_reason() -> None:
    """Nothing old is shown as if it were new."""
    found = lines(Sample("shop", 1.0, 0.0, error="no process listens"))
    assert found == ["shop  does not answer", "no process listens"]


def test_rates_are_differences_over_the_time_between_two_looks() -> None:
    """Of each kind, and of each worker that was there before."""
    assert rates(LATER, NOW) == Rates(100.0, 2.0, 0.0, {3: 50.0, 4: 50.0})
    assert "a second: 100 new, 2 migrated" in lines(LATER, NOW)
    assert rates(NOW, None) == Rates()
    assert rates(NOW, Sample("shop", 1.0, 0.0)) == Rates()
    # Another supervisor begins to count anew.
    assert rates(replace(NOW, at=20.0), LATER).new == 0.0


def test_a_bar_is_as_wide_as_its_value() -> None:
    """Something that waits is seen, and nothing is not."""
    assert bar(0, 10) == bar(0, 0) == ""
    assert len(bar(1, 1000)) == 1
    assert bar(5, 10) == "████"
    assert bar(10, 10, ascii_only=True) == "#" * 8


def test_a_line_that_is_too_long_ends_with_an_ellipsis() -> None:
    """Of each piece what fits stays in its style, and wide characters count twice."""
    gone = Sample("shop", 1.0, 0.0, error="漢字 漢字")
    assert draw(gone, Rates(), 12, 24, "> ") == [
        (("> ", ""), ("shop", "bold"), ("  doe…", "red")),
        (("漢字 漢字", "red"),),
    ]
    assert draw(gone, Rates(), 8, 24)[1] == (("漢字 漢…", "red"),)
