"""Which tick Linux is at, by what it says of its timers."""

from __future__ import annotations

import pytest

from segue.lab.ticks import first_in, first_tick

LIST = """Timer List Version: v0.10
HRTIMER_MAX_CLOCK_BASES: 8
now at {now} nsecs

cpu: 0
  .last_jiffies   : 4316767440
jiffies: 4316767504
"""


def test_ticks_are_counted_from_the_clocks_beginning() -> None:
    """The count now, less the whole ticks that have passed; within a tick it is the same."""
    told = {first_in(LIST.format(now=now)) for now in (87501080000000, 87501083999999)}
    assert told == {4316767504 - 21875270}


def test_a_list_that_is_hidden_tells_nothing() -> None:
    """Most containers have an empty one."""
    assert first_in("") is None


@pytest.mark.root
def test_linux_counts_on_at_each_tick() -> None:
    """What it had counted at first does not change."""
    first = first_tick()
    first_tick.cache_clear()
    assert first_tick() == first
