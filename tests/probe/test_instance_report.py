"""Segue's side of a run: what two looks at its status say, and what happened between them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from segue.probe.instance_report import InstanceWatch, Milestone, report_of
from segue.supervisor.control.status import FrontStatus, Status, WorkerStatus


def look(
    working: int | None,
    newcomer: int | None,
    *generations: int,
    new: int = 0,
    by_hash: int = 2,
    **more: Any,
) -> Status:
    """A status with a worker of each of these generations; the second address counts nothing."""
    front = FrontStatus(name="", address="127.0.0.1:1")
    worker = WorkerStatus(generation=0, id=0, pid=0, stage="serving", age=0.25, share=0)
    made = Status(
        name="t", pid=1, phase="serving", engine="migrate", working=working, newcomer=newcomer,
        size=1,
        fronts=(
            replace(front, by_hash=by_hash, counts={"new": new, "child": new // 10}),
            replace(front, by_hash=1, counts={"new": 7, "child": 0}),
        ),
        workers=tuple(replace(worker, generation=one) for one in generations),
    )  # fmt: skip
    return replace(made, **more)


def test_a_restart_has_a_beginning_a_flip_and_an_end() -> None:
    """And the counters are differences of the first and the last look, by kind."""
    found = report_of(
        [
            (0.0, look(1, None, 1, new=100)),
            (1.0, look(1, 2, 1, new=150)),
            (2.0, look(1, 2, 1, 2, new=160)),
            (3.0, look(2, None, 1, 2, new=200)),
            (4.0, look(2, None, 2, new=250, by_hash=5, moved=4, cut=1)),
        ]
    )
    assert found.marks == (
        Milestone(1.75, "generation 2 starts"),
        Milestone(3.0, "generation 2 serves"),
        Milestone(4.0, "generation 1 is gone"),
    )
    assert found.counts == {"new": 150, "child": 15}
    assert (found.by_hash, found.moved, found.cut, found.restarts) == (3, 4, 1, 1)


def test_what_was_carried_is_a_difference_too() -> None:
    """By the reason where it was left alone; nothing is said of what there is none of."""
    busy, small = "its request is being answered", "its client takes only small segments"
    before = {"carried": 3, "carried_unread": 1, "left_alone": {busy: 2, small: 1}}
    after = {
        "carried": 10, "carried_unread": 3, "carry_delayed": 1,
        "left_alone": {busy: 6, small: 1},
    }  # fmt: skip
    found = report_of(
        [(0.0, look(1, None, 1, **before)), (1.0, look(1, None, 1, **after))]  # type: ignore[arg-type]
    )
    assert list(found.counters())[-4:] == [
        ("carried", 7),
        ("with an unread request", 2),
        ("delayed", 1),
        (f"left alone ({busy})", 4),
    ]
    none = report_of([(0.0, look(1, None, 1)), (1.0, look(1, None, 1))])
    assert [name for name, _ in none.counters()][-1] == "restarts"


def test_a_moment_without_listeners_names_no_generation() -> None:
    """Of an attached group all may be gone for a while: no generation serves then."""
    looks = [(0.0, look(1, None, 1)), (1.0, look(None, None)), (2.0, look(2, None, 2))]
    assert [one.text for one in report_of(looks).marks] == [
        "generation 1 is gone",
        "generation 2 starts",
        "generation 2 serves",
    ]


def test_a_flip_is_placed_by_its_age() -> None:
    """Looks may be far apart; a rollback has no flip, and is placed where it was seen."""
    found = report_of(
        [
            (0.0, look(1, 2, 1, 2)),
            (2.0, look(2, None, 1, 2, flip_age=1.5)),
            (3.0, look(1, None, 1, 2, flip_age=2.5)),
        ]
    )
    assert found.marks == (
        Milestone(0.5, "generation 2 serves"),
        Milestone(3.0, "generation 1 serves"),
    )


def test_newcomers_that_will_not_do_are_given_up() -> None:
    """Their end is not a generation's that had served; a next attempt is another one."""
    found = report_of(
        [
            (0.0, look(1, 2, 1)),
            (1.0, look(1, 2, 1, 2)),
            (2.0, look(1, 3, 1, 3)),
            (3.0, look(1, None, 1)),
        ]
    )
    assert [mark.text for mark in found.marks] == [
        "generation 2 starts", "generation 3 starts", "generation 2 is given up",
        "generation 3 is given up",
    ]  # fmt: skip
    assert found.restarts == 0


def test_an_engine_that_cannot_count_shows_no_counts() -> None:
    """Rather than zeros, which would be a statement."""
    heard = look(1, None, 1)
    mute = replace(heard, fronts=tuple(replace(front, counts={}) for front in heard.fronts))
    assert report_of([(0.0, mute), (1.0, mute)]).counts == {}


def test_a_supervisor_that_counts_anew_is_not_shown_below_zero() -> None:
    """One that was killed and followed by another has lost what left before."""
    before, after = look(1, None, 1, new=90), look(1, None, 1, new=5)
    assert report_of([(0.0, before), (1.0, after)]).counts["new"] == 0


def test_who_is_not_served_by_segue_is_asked_once() -> None:
    """No instance, no looks, and nothing to tell."""
    asked: list[None] = []
    watch = InstanceWatch(lambda: asked.append(None))
    watch.start()
    assert watch.finish(0.0) is None
    assert len(asked) == 1


def test_looks_without_news_are_forgotten() -> None:
    """But not the first, the last, or those around a change, which say when it was."""
    states = [look(1, None, 1, new=count) for count in range(50)]
    states += [look(2, None, 2, new=count) for count in range(50, 100)]
    watch = InstanceWatch(lambda: None)
    for second, state in enumerate(states):
        watch._keep(float(second), state)
    assert [at for at, _ in watch._looks] == [0.0, 49.0, 50.0, 99.0]
    found = report_of(watch._looks)
    assert found.marks == (
        Milestone(49.75, "generation 2 starts"),
        Milestone(50.0, "generation 2 serves"),
        Milestone(50.0, "generation 1 is gone"),
    )
    assert found.counts["new"] == 99
