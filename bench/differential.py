"""Stories by chance, told to Linux and to the model until the time is over.  Needs root.

python -m bench.differential [SECONDS [FIRST]]

A story that is not told alike is printed with its number, under which it can be had again.
"""

from __future__ import annotations

import difflib
import random
import sys
import time
from itertools import count

from segue.lab.chance import story
from segue.lab.sides import ModelSide, kernel
from segue.lab.telling import tell

LONGEST = 12  # steps; a difference in a short story needs no shrinking


def main() -> int:
    """The exit code says whether all were told alike."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    until = time.monotonic() + seconds
    told = different = 0
    for number in count(first):
        if time.monotonic() >= until:
            break
        chance = random.Random(number)
        steps = story(chance.choice, chance.randint(3, LONGEST))
        with kernel() as linux:
            seen = tell(steps, linux)
        ours = tell(steps, ModelSide())
        told += 1
        if seen != ours:
            different += 1
            print(f"story {number}", *difflib.ndiff(seen, ours), sep="\n")
    print(f"{told} stories, {different} of them not told alike")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
