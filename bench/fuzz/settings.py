"""Files of settings: each is read, or refused in a sentence that names it."""

from __future__ import annotations

import random
import tempfile
import traceback
from pathlib import Path
from typing import Any

from bench.fuzz.found import Found, mutated
from segue.cli.run import read
from segue.errors import SegueError
from segue.supervisor.settings import KEYS, Settings

COUNT = 20_000
_VALUES = (
    "1", "0", "-1", "2.5", "1e400", "inf", "nan", "true", '""', '"x"', '"127.0.0.1:8080"', "[]",
    '["a=127.0.0.1:1", "b=[::1]:2"]', '["a=1", "=", "x"]', '"TERM"', '"50ms"', '"off"', '"queue"',
    "1979-05-27T07:32:00Z", "{a = 1}", '"\\u2028\\u001b"', "0xffffffffffffffffffff", "[[[[]]]]",
    '"' + "9" * 5000 + '"', "9" * 5000, "[" * 3000, '"\\ud800"', "'''", "[1, 'x']", '"{fd}{fd}"',
)  # fmt: skip
_WHOLE = 'bind = ["127.0.0.1:8080"]\ncommand = ["server", "--fd", "{fd}"]\n'


def text(chance: random.Random) -> bytes:
    """One file."""
    lines = [_WHOLE] if chance.random() < 0.7 else []
    keys = [*KEYS, "nonsense", "[section]", '"quoted key"', "a.b.c"]
    lines += [
        f"{chance.choice(keys)} = {chance.choice(_VALUES)}" for _ in range(chance.randrange(4))
    ]
    chance.shuffle(lines)
    made = "\n".join(lines).encode()
    return made if chance.random() < 0.5 else mutated(chance, made)


def fuzz(count: int, first: int) -> Found:
    """So many files of this seed, each as by ``segue run --config``."""
    found, chance = Found(), random.Random(first)
    with tempfile.TemporaryDirectory() as where:
        path = Path(where) / "segue.toml"
        for number in range(count):
            made = text(chance)
            path.write_bytes(made)
            what = f"seed {first}, file {number} {made[:300]!r}"
            with found.timed(what):
                try:
                    settings, _ = read(str(path), {}, where)
                    found.counts["read"] += 1
                except SegueError:
                    found.counts["refused"] += 1
                    continue
                except Exception:  # noqa: BLE001  whatever it is, it is a finding
                    found.finding(f"{what}\n{traceback.format_exc(limit=-3)}")
                    continue
            if _again(settings) != settings:
                found.finding(f"{what}: the record holds other settings")
    return found


def _again(settings: Settings) -> Any:
    """What a next supervisor would read from the record."""
    return Settings.from_json(settings.to_json())
