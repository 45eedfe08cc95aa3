"""Nonsense by chance into whatever reads from outside: counts by outcome, and what must not be.

python -m bench fuzz [WHAT[=COUNT]...] [--first SEED] [--jobs N]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from bench.fuzz import control, notifications, objects, packets, scripts, settings
from bench.fuzz.found import Found
from bench.harness import apart

Fuzz = Callable[[int, int, int], Found]


def alone(run: Callable[[int, int], Found]) -> Fuzz:
    """One that takes a single process."""
    return lambda count, first, _: run(count, first)


# Name -> inputs unless told otherwise, and what sends them.
READERS: dict[str, tuple[int, Fuzz]] = {
    "packets": (packets.COUNT, packets.fuzz),
    "settings": (settings.COUNT, alone(settings.fuzz)),
    "scripts": (scripts.COUNT, alone(scripts.fuzz)),
    "objects": (objects.COUNT, alone(objects.fuzz)),
    "programs": (objects.LOADED, alone(objects.fuzz_programs)),
    "notifications": (notifications.COUNT, alone(notifications.fuzz)),
    "control": (control.COUNT, alone(control.fuzz)),
}


def main(args: Sequence[str] | None = None) -> int:
    """The exit code says whether anything was found."""
    known = ", ".join(f"{name}={count}" for name, (count, _) in READERS.items())
    reader = argparse.ArgumentParser(
        prog="python -m bench fuzz", description=__doc__.split("\n")[0]
    )
    reader.add_argument("what", nargs="*", metavar="WHAT[=COUNT]", help=f"some of: {known}")
    reader.add_argument("--first", type=int, default=0, metavar="SEED")
    reader.add_argument("--jobs", type=int, default=1, metavar="N", help="processes, for packets")
    asked = reader.parse_args(args)
    wanted = dict(one.partition("=")[::2] for one in asked.what) or dict.fromkeys(READERS, "")
    for name, count in wanted.items():
        if name not in READERS or not (count or "0").isdecimal():
            reader.error(f"{name}={count}: write some of {known}")
    # What listens, and what is loaded, is in a network namespace of its own.
    apart()
    findings = 0
    for name, count in wanted.items():
        usual, run = READERS[name]
        begun = time.monotonic()
        found = run(int(count or usual), asked.first, asked.jobs)
        print(f"{name}: {found} in {time.monotonic() - begun:,.0f} s, seed {asked.first}")
        for one in found.findings:
            print(one)
        sys.stdout.flush()
        findings += len(found.findings)
    return min(findings, 1)


if __name__ == "__main__":
    sys.exit(main())
