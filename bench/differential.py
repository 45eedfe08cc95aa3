"""Stories by chance, told to Linux and to the model until the time is over.  Needs root.

python -m bench.differential [SECONDS [FIRST [JOBS]]]

A story that is not told alike is printed with its number, under which it can be had again, and as
the shortest part of it that is still not told alike.  Telling is mostly waiting, so that many JOBS
at once cost little: sixty take one core.  All stories between the first and the last are told, so
that runs add up.
"""

from __future__ import annotations

import difflib
import multiprocessing
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from typing import Any

from bench.shrinking import shrunk
from segue.lab.chance import story
from segue.lab.replay import both

LONGEST = 14  # steps


def numbered(number: int) -> str:
    """The story of this number, always the same."""
    chance = random.Random(number)
    return story(chance.choice, chance.randint(3, LONGEST))


def differs(told: str) -> bool:
    """They do not tell the same, three times: Linux may have had other things to do."""
    for _ in range(3):
        seen, ours = both(told)
        if seen == ours:
            return False
    return True


_next: Any = None  # the number of the next story, of all processes


def _begin(numbers: Any) -> None:
    global _next  # noqa: PLW0603  what a pool's processes share cannot be an argument
    _next = numbers


def some(until: float) -> list[int]:
    """Tell the next story, one after the other; the numbers of those that differ."""
    different: list[int] = []
    while time.monotonic() < until:
        with _next.get_lock():
            number = _next.value
            _next.value += 1
        if differs(numbered(number)):
            different.append(number)
    return different


def least(number: int) -> str:
    """The shortest part of a story that differs, and how."""
    story = shrunk(numbered(number), differs)
    return "\n".join((f"story {number}", *difflib.ndiff(*both(story))))


def main() -> int:
    """The exit code says whether all were told alike."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    jobs = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    until = time.monotonic() + seconds
    numbers = multiprocessing.Value("q", first)
    with ProcessPoolExecutor(jobs, initializer=_begin, initargs=(numbers,)) as pool:
        different = sorted(chain.from_iterable(pool.map(some, [until] * jobs)))
        for text in pool.map(least, different):
            print(text)
    beyond = numbers.value
    print(f"{beyond - first} stories, {first} to {beyond - 1}: {len(different)} not told alike")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
