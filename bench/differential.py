"""Stories by chance, told to Linux and to the model until the time is over.  Needs root.

python -m bench.differential [SECONDS [FIRST [JOBS]]]

A story that is not told alike is printed with its number, under which it can be had again, and as
the shortest part of it that is still not told alike.  Each of JOBS processes tells many at once,
since telling is mostly waiting: one for each processor is enough.  All stories between the first
and the last are told, so that runs add up.
"""

from __future__ import annotations

import difflib
import multiprocessing
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from bench.abreast import abreast
from bench.shrinking import shrunk
from segue.lab.chance import story
from segue.lab.replay import both

LONGEST = 14  # steps
_UNLIKE = 3  # times undisturbed in which a story must not be told alike
_ROUNDS = 30  # after which it counts even if it was disturbed each time


def numbered(number: int) -> str:
    """The story of this number, always the same."""
    chance = random.Random(number)
    return story(chance.choice, chance.randint(3, LONGEST))


def differs(told: str) -> bool:
    """They do not tell the same, three times: Linux may have had other things to do."""
    for _ in range(_UNLIKE):
        seen, ours = both(told)
        if seen == ours:
            return False
    return True


_next: Any = None  # the number of the next story, of all processes


def _begin(numbers: Any) -> None:
    global _next  # noqa: PLW0603  what a pool's processes share cannot be an argument
    _next = numbers


def _new(until: float) -> Iterator[tuple[int, str]]:
    while time.monotonic() < until:
        with _next.get_lock():
            number = _next.value
            _next.value += 1
        yield number, numbered(number)


def some(until: float) -> tuple[list[int], list[int]]:
    """Tell new stories; the numbers of those that differ, and of those that once did."""
    unlike = {one.number: not one.disturbed for one in abreast(_new(until)) if not one.is_alike}
    once = list(unlike)
    counted: dict[int, int] = {number: int(calm) for number, calm in unlike.items()}
    different: list[int] = []
    for _ in range(_ROUNDS):
        again = [(number, numbered(number)) for number in counted]
        for one in abreast(iter(again)):
            counted[one.number] += not one.is_alike and not one.disturbed
            if one.is_alike:
                del counted[one.number]
            elif counted[one.number] == _UNLIKE:
                del counted[one.number]
                different.append(one.number)
    different += counted
    return different, sorted(set(once) - set(different))


def least(number: int) -> str:
    """The shortest part of a story that differs, and how."""
    told = numbered(number)
    if not differs(told):
        return f"story {number} differs only where other stories are told"
    return "\n".join((f"story {number}", *difflib.ndiff(*both(shrunk(told, differs)))))


def main() -> int:
    """The exit code says whether all were told alike."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    jobs = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    until = time.monotonic() + seconds
    numbers = multiprocessing.Value("q", first)
    with ProcessPoolExecutor(jobs, initializer=_begin, initargs=(numbers,)) as pool:
        found = list(pool.map(some, [until] * jobs))
        different = sorted(number for ours, _ in found for number in ours)
        once = sorted(number for _, ours in found for number in ours)
        for text in pool.map(least, different):
            print(text)
    beyond = numbers.value
    print(f"{beyond - first} stories, {first} to {beyond - 1}: {len(different)} not told alike")
    if once:
        print(f"told alike only when told again, alone or undisturbed: {', '.join(map(str, once))}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
