"""What a chronicle makes of the changes of an instance: pure, by values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest

from segue.supervisor.lifecycle.chronicle import FAILED, SERVED, UNSEEN, Chronicle, Event
from segue.supervisor.lifecycle.instance import Instance, Renewal, Worker
from segue.supervisor.lifecycle.stages import Phase, Stage

EPOCH = 1_700_000_000.0


@dataclass
class Told:
    """A chronicle, its clocks, and what it has recorded by key."""

    now: float = 100.0
    counts: dict[str, int] = field(default_factory=lambda: {"moved": 5, "cut": 2})
    events: dict[str, Event] = field(default_factory=dict)

    def chronicle(self) -> Chronicle:
        return Chronicle(
            lambda event: self.events.update({event.key: event}),
            lambda: self.now,
            lambda: EPOCH + self.now,
            lambda: dict(self.counts),
        )

    @property
    def last(self) -> Event:
        return list(self.events.values())[-1]


def waiting() -> Instance:
    """Generation 1 serves, and generation 2 is wanted."""
    return Instance(size=1, phase=Phase.SERVING, queued=Renewal())


def starting() -> Instance:
    return Instance(size=1, phase=Phase.RENEWING, newcomer=2, last_generation=2)


def serving(*, drained: bool) -> Instance:
    """Generation 2 serves, and the worker before has gone or not."""
    old = Worker(1, 1, 10, 0.0, stage=Stage.GONE if drained else Stage.DRAINING)
    new = Worker(2, 2, 11, 0.0, stage=Stage.SERVING)
    return Instance(
        size=1, phase=Phase.SERVING, working=2, last_generation=2, workers={1: old, 2: new}
    )


def restarted(told: Told, chronicle: Chronicle) -> None:
    """A restart that waited for 1 s, started for 2 s and drained for 3 s."""
    chronicle.asked(2, "root", "--keep 5")
    for seconds, instance in (
        (0.0, waiting()),
        (1.0, starting()),
        (2.0, serving(drained=False)),
        (3.0, serving(drained=True)),
    ):
        told.now += seconds
        chronicle.look(instance)


def test_a_restart_is_one_event_with_its_stages_and_what_it_did() -> None:
    """Only what has happened since it was asked for is counted."""
    told = Told()
    chronicle = told.chronicle()
    chronicle.asked(2, "root", "--keep 5")
    chronicle.look(waiting())
    told.now += 1.0
    chronicle.look(starting())
    told.counts["moved"] = 9
    told.now += 2.0
    chronicle.look(serving(drained=False))
    assert told.last.result == ""
    told.now += 3.0
    chronicle.look(serving(drained=True))
    (event,) = told.events.values()
    assert event.what == "restart to generation 2 (--keep 5)"
    assert (event.by, event.result, event.at) == ("root", SERVED, EPOCH + 100.0)
    assert event.stages == {"waiting": 1.0, "starting": 2.0, "draining": 3.0}
    assert (event.took, event.counts) == (6.0, {"moved": 4})


def test_a_restart_that_begins_at_once_has_not_waited() -> None:
    """A stage of some microseconds is left out."""
    told = Told()
    chronicle = told.chronicle()
    chronicle.asked(2, "root")
    told.now += 0.001
    chronicle.look(starting())
    told.now += 1.0
    chronicle.look(serving(drained=True))
    assert told.last.stages == {"starting": 1.0}


def test_a_canary_is_a_stage() -> None:
    """It lasts until it is promoted."""
    told = Told()
    chronicle = told.chronicle()
    chronicle.asked(2, "root", "--canary 10")
    chronicle.look(starting())
    chronicle.look(replace(starting(), phase=Phase.CANARY))
    told.now += 7.0
    chronicle.look(serving(drained=True))
    assert told.last.stages == {"starting": 0.0, "canary": 7.0}
    assert told.last.result == SERVED


def test_a_failure_stays_until_a_restart_serves() -> None:
    """Its reason is kept; an order that gave it up is none."""
    told = Told()
    chronicle = told.chronicle()
    chronicle.asked(2, "root")
    chronicle.look(starting())
    chronicle.given_up(2, "worker 2.2 exited with 1")
    chronicle.look(Instance(size=1, phase=Phase.SERVING, last_generation=2))
    assert (told.last.result, told.last.why) == (FAILED, "worker 2.2 exited with 1")
    assert chronicle.failure == told.last
    chronicle.asked(3, "root")
    chronicle.given_up(3, "it was rolled back", "rolled back")
    chronicle.look(Instance(size=1, phase=Phase.SERVING, last_generation=3))
    assert told.last.result == "rolled back"
    assert chronicle.failure is not None
    restarted(told, told.chronicle())
    chronicle.adopt(told.events.values(), serving(drained=True))
    assert chronicle.failure is None


def test_a_later_restart_supersedes_one_that_waits() -> None:
    """Both have the same number."""
    told = Told()
    chronicle = told.chronicle()
    chronicle.asked(2, "first")
    chronicle.asked(2, "second")
    chronicle.look(starting())
    first, second = told.events.values()
    assert (first.by, first.result) == ("first", "superseded")
    assert (second.by, second.result) == ("second", "")


@pytest.mark.parametrize(
    ("instance", "result"),
    [
        (Instance(size=1, phase=Phase.STOPPING), "stopped"),
        (Instance(size=1, phase=Phase.SERVING), "withdrawn"),
    ],
)
def test_a_restart_that_waits_may_never_begin(instance: Instance, result: str) -> None:
    """The instance stops, or a rollback gives it up too."""
    told = Told()
    chronicle = told.chronicle()
    chronicle.asked(2, "root")
    chronicle.look(instance)
    assert told.last.result == result


def test_one_that_still_drains_has_served_when_the_next_one_takes_over() -> None:
    """Two restarts may be under way for a while, and both are followed."""
    told = Told()
    chronicle = told.chronicle()
    chronicle.asked(2, "root")
    chronicle.look(serving(drained=False))
    chronicle.asked(3, "root")
    third = replace(serving(drained=False), working=3, last_generation=3)
    chronicle.look(third)
    assert [one.result for one in told.events.values()] == [SERVED, ""]


def test_the_next_supervisor_goes_on_with_a_restart() -> None:
    """Its time and its counts go on too, although the counters of the instance begin anew."""
    told = Told()
    chronicle = told.chronicle()
    chronicle.asked(2, "root")
    chronicle.look(starting())
    told.counts["moved"] = 8
    told.now += 2.0
    chronicle.look(serving(drained=False))
    assert told.last.counts == {"moved": 3}
    told.counts = {"moved": 0, "cut": 0}
    after = told.chronicle()
    told.now += 4.0
    after.adopt(list(told.events.values()), serving(drained=False))
    told.counts["moved"] = 1
    told.now += 1.0
    after.look(serving(drained=True))
    (event,) = told.events.values()
    assert event.result == SERVED
    assert event.stages == {"starting": 2.0, "draining": 5.0}
    assert event.counts == {"moved": 4}


def test_a_restart_that_nobody_saw_end_is_said_to_be_so() -> None:
    """The instance of now knows nothing of it."""
    told = Told()
    chronicle = told.chronicle()
    chronicle.asked(2, "root")
    chronicle.look(starting())
    told.chronicle().adopt(list(told.events.values()), Instance(size=1))
    assert told.last.result == UNSEEN


def test_an_event_comes_back_as_it_was() -> None:
    """From JSON, also of a version that lacks a field or has one more."""
    told = Told()
    restarted(told, told.chronicle())
    plain = json.loads(json.dumps(told.last.to_json()))
    assert Event.from_json(plain) == told.last
    assert Event.from_json({"key": "k", "kind": "crash", "at": 1.0, "what": "w", "new": 1}).by == ""


@pytest.mark.parametrize(
    "plain",
    [
        7,
        {"at": "yesterday"},
        {"at": True},
        {"at": 1.0, "what": 3},
        {"at": 1.0, "stages": [1]},
        {"at": 1.0, "counts": {"moved": "many"}},
    ],
)
def test_what_is_no_event_is_refused(plain: object) -> None:
    """A line of the file may be anything."""
    with pytest.raises(ValueError, match="event"):
        Event.from_json(plain)


def test_long_words_are_cut() -> None:
    """A worker's last words may be a megabyte."""
    told = Told()
    told.chronicle().note("crash", "worker 1.1 " + "x" * 100_000)
    assert len(told.last.what) < 1000
