"""``python -m bench carries``: connections carried at random moments, and every carry judged.

Says what became of the attempts, which carries were wrong, by what the server was doing, and what
clients found.  Each thousand carries (``--each``) have a seed of their own, servers and clients of
their own.  As root.  The exit code says whether anything was wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench.carrying.clients import Habits
from bench.carrying.trial import RULES, Judged, carried_apart
from bench.harness import apart

_SECONDS = 120.0  # for a thousand
_MOST_SHOWN = 10


def main(args: Sequence[str] | None = None) -> int:
    """0; 1 when a carry was wrong or a client found anything; 2 without root."""
    reader = argparse.ArgumentParser(
        prog="python -m bench carries", description=__doc__.split("\n")[0]
    )
    reader.add_argument("count", nargs="?", type=int, default=10_000, help="carries (%(default)s)")
    reader.add_argument("--first", type=int, default=0, metavar="SEED")
    reader.add_argument("--rule", choices=RULES, default="notes")
    reader.add_argument("--pause", type=float, default=0.0, metavar="MS", help="within an answer")
    reader.add_argument("--hints", action="store_true", help="with 100 and 103 before an answer")
    reader.add_argument("--clients", type=int, default=24)
    reader.add_argument("--think", type=float, default=20.0, metavar="MS", help="on average")
    reader.add_argument("--each", type=int, default=1000, help="carries of a seed (%(default)s)")
    asked = reader.parse_args(args)
    if not apart():
        sys.stderr.write("python -m bench carries needs root, for a network namespace\n")
        return 2
    total, seed = Judged(), asked.first
    while total.carried < asked.count:
        habits = Habits(seed, asked.clients, asked.think, pause_ms=asked.pause, hints=asked.hints)
        wanted = min(asked.each, asked.count - total.carried)
        limit = _SECONDS * asked.each / 1000
        judged = carried_apart(wanted, limit, habits, RULES[asked.rule])
        if judged.carried < wanted:
            judged.findings.append(f"only {judged.carried} carried in {limit:g} s")
        for one in judged.findings[:_MOST_SHOWN]:
            print(f"seed {seed}: {one}", flush=True)
        total.add(judged)
        if judged.carried < wanted:
            break
        seed += 1
    print(total)
    return int(bool(total.wrong or total.findings))


if __name__ == "__main__":
    sys.exit(main())
