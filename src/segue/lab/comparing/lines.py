"""What the processes of a comparison say to the one that has started them: lines of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from segue import strict_json
from segue.lab.comparing.ledger import End, How, Served
from segue.lab.comparing.settings import Settings

READY = "ready\n"


def settings(argument: str) -> Settings:
    """From the argument that ``told`` made."""
    return Settings(**strict_json.loads(argument))


def told(given: Settings) -> str:
    """As an argument."""
    return json.dumps(asdict(given))


def say(line: str) -> None:
    """At once."""
    sys.stdout.write(f"{line.rstrip()}\n")
    sys.stdout.flush()


def ready() -> float:
    """Say that it can begin, and wait to be told when, by time.monotonic()."""
    say(READY)
    return float(sys.stdin.readline())


def say_served(served: Served) -> None:
    """What the servers have seen."""
    plain = asdict(served) | {
        "accepted": sorted(served.accepted),
        "half_open": sorted(served.half_open),
    }
    say(json.dumps(plain))


def served(line: str) -> Served:
    """The same, read."""
    plain = strict_json.loads(line)
    return Served(
        **plain
        | {"accepted": frozenset(plain["accepted"]), "half_open": frozenset(plain["half_open"])}
    )


def say_ends(ends: Sequence[End]) -> None:
    """What became of every connection, as clients saw it."""
    plain = [asdict(one) | {"how": one.how.name} for one in ends]
    say(json.dumps(plain))


def ends(line: str) -> list[End]:
    """The same, read."""
    return [End(**one | {"how": How[one["how"]]}) for one in strict_json.loads(line)]
