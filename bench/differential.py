"""Stories by chance, told to Linux and to the model until the time is over.  Needs root.

python -m bench.differential [SECONDS [FIRST [JOBS]]]

A story that is not told alike is printed with its number, under which it can be had again, and as
the shortest part of it that is still not told alike.  Telling is mostly waiting, so that many JOBS
at once cost little.
"""

from __future__ import annotations

import difflib
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import count

from bench.shrinking import shrunk
from segue.lab.chance import story
from segue.lab.replay import replay
from segue.lab.sides import ModelSide, kernel, linux_here

LONGEST = 14  # steps


def numbered(number: int) -> str:
    """The story of this number, always the same."""
    chance = random.Random(number)
    return story(chance.choice, chance.randint(3, LONGEST))


def both(told: str) -> tuple[list[str], list[str]]:
    """What Linux and what the model tell."""
    with kernel() as linux:
        seen = replay(told, linux)
    return seen, replay(told, ModelSide(linux_here(), linux.steps))


def differs(told: str) -> bool:
    """They do not tell the same, three times: Linux may have had other things to do."""
    for _ in range(3):
        seen, ours = both(told)
        if seen == ours:
            return False
    return True


def some(first: int, step: int, until: float) -> tuple[int, list[int]]:
    """Tell every so many; how many there were, and the numbers of those that differ."""
    different: list[int] = []
    for told, number in enumerate(count(first, step)):
        if time.monotonic() >= until:
            return told, different
        if differs(numbered(number)):
            different.append(number)
    raise AssertionError


def main() -> int:
    """The exit code says whether all were told alike."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    jobs = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    until = time.monotonic() + seconds
    with ProcessPoolExecutor(jobs) as pool:
        starts = range(first, first + jobs)
        parts = list(pool.map(some, starts, [jobs] * jobs, [until] * jobs))
    different = sorted(number for _, found in parts for number in found)
    for number in different:
        least = shrunk(numbered(number), differs)
        print(f"story {number}", *difflib.ndiff(*both(least)), sep="\n")
    told = sum(number for number, _ in parts)
    print(f"{told} stories from {first} on, {len(different)} of them not told alike")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
