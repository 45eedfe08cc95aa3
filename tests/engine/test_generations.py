"""Numbers for generations that nobody announces."""

from __future__ import annotations

import json

from segue.engine.generations import Generations
from segue.observe.origin import Origin


def test_servers_that_start_together_are_one_generation() -> None:
    """Each within the limit after the one before it, however long that goes on."""
    numbers = Generations(together=10)
    starts = [100.0, 101.0, 110.5, 120.0]
    assert [numbers.number(Origin(str(at), at)) for at in starts] == [1, 1, 1, 1]
    assert numbers.number(Origin("late", 130.5)) == 2
    assert numbers.number(Origin("with it", 131.0)) == 2


def test_a_server_stays_in_its_generation() -> None:
    """A worker that it starts anew is no newcomer, though newer servers have come."""
    numbers = Generations(together=10)
    assert [numbers.number(Origin(key, at)) for key, at in (("a", 1), ("b", 50))] == [1, 2]
    assert numbers.number(Origin("a", 1)) == 1


def test_who_started_earlier_and_comes_later_belongs_to_the_newest() -> None:
    """A slow starter: what it was started with listens already."""
    numbers = Generations(together=10)
    assert [numbers.number(Origin(key, at)) for key, at in (("a", 1), ("b", 50))] == [1, 2]
    assert numbers.number(Origin("slow", 45)) == 2


def test_by_a_mark_each_mark_is_a_generation() -> None:
    """However close together; the same mark again is the same generation."""
    numbers = Generations(by_start=False)
    found = [numbers.number(Origin(key, 1.0)) for key in ("blue", "green", "blue", "green")]
    assert found == [1, 2, 1, 2]


def test_a_number_is_never_given_twice() -> None:
    """The next generation after the last one has gone is another, also with the same key."""
    numbers = Generations(together=10)
    assert numbers.number(Origin("a", 1)) == 1
    numbers.keep([])
    assert numbers.number(Origin("a", 2)) == 2
    numbers.keep([2])
    assert numbers.number(Origin("a", 2)) == 2


def test_what_was_written_down_goes_on() -> None:
    """Keys and numbers as they were."""
    before = Generations(together=10)
    before.number(Origin("a", 1))
    before.number(Origin("b", 50))
    after = Generations(together=10)
    after.restore(json.loads(json.dumps(before.to_json())))
    assert after.number(Origin("a", 1)) == 1
    assert after.number(Origin("c", 55)) == 2
    assert after.number(Origin("d", 99)) == 3
