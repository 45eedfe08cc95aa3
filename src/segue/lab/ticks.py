"""Which tick Linux is at: its timers fire only at these."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

from segue.model.durations import TICK

_LIST = Path("/proc/timer_list")
_LOOKS = 9  # one may fall between the clock and the count


@cache
def first_tick() -> int | None:
    """What Linux had counted when CLOCK_MONOTONIC was 0; None where it does not say, as in most
    containers.  Needs root, since timer_list is read.
    """
    found = Counter(first_in(_LIST.read_text()) for _ in range(_LOOKS))
    return found.most_common(1)[0][0]


def first_in(text: str) -> int | None:
    """The same by what timer_list says.

    Ticks come at whole multiples of their length (tick_setup_device).
    """
    now = re.search(r"now at (\d+) nsecs", text)
    count = re.search(r"^jiffies: (\d+)", text, re.MULTILINE)
    if now is None or count is None:
        return None
    return int(count[1]) - int(now[1]) // round(TICK * 1_000_000_000)
