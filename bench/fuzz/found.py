"""What became of the inputs of a run, and what is done to an input."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# Each is one input; none may take so long, on a machine with other work.
SLOW_S = 5.0
_EDGES = (0, 1, 0x0A, 0x22, 0x5B, 0x7B, 0x7F, 0x80, 0xC2, 0xFF)
_MOST_FINDINGS = 20


@dataclass(slots=True)
class Found:
    """Counts by outcome; ``findings`` are what must not be, each with how to see it again."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    @property
    def total(self) -> int:
        """Inputs."""
        return sum(self.counts.values())

    def finding(self, text: str) -> None:
        """Something is wrong; the first twenty are kept."""
        self.counts["FINDING"] += 1
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(text)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """One input, whose time is bounded."""
        begun = time.monotonic()
        yield
        took = time.monotonic() - begun
        self.slowest_s = max(self.slowest_s, took)
        if took > SLOW_S:
            self.finding(f"{what}: took {took:.1f} s")

    def add(self, other: Found) -> None:
        """Another run's."""
        self.counts += other.counts
        self.findings = (self.findings + other.findings)[:_MOST_FINDINGS]
        self.slowest_s = max(self.slowest_s, other.slowest_s)

    def __str__(self) -> str:
        parts = ", ".join(f"{count:,} {name}" for name, count in self.counts.most_common())
        return f"{self.total:,}: {parts}; slowest {self.slowest_s:.3f} s"


def mutated(chance: random.Random, data: bytes, most: int = 8) -> bytes:
    """Some bytes changed, put in, taken out, or said twice."""
    made = bytearray(data)
    for _ in range(chance.randint(1, most)):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(6):
            case 0 if made:
                made[at % len(made)] ^= 1 << chance.randrange(8)
            case 1 if made:
                made[at % len(made)] = chance.choice(_EDGES)
            case 2:
                made[at:at] = bytes(chance.choice(_EDGES) for _ in range(chance.randint(1, 4)))
            case 3:
                del made[at : at + chance.choice((1, 1, 4, 100))]
            case 4:
                made[at:at] = made[at : at + chance.choice((1, 8, 200))]
            case _:
                made[at : at + 4] = chance.randbytes(4)
    return bytes(made)
