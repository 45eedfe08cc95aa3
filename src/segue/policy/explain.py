"""A policy's source and its program, side by side."""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from dataclasses import dataclass

from segue.bpf.disasm import disassemble
from segue.policy.compile import Compiled

PINS = "(the port's pin)"
END = "(counting)"


@dataclass(frozen=True, slots=True)
class ListingRow:
    """An instruction or a label; ``source`` is empty while it is still that of the row before.

    ``line`` counts from 1 in the policy's file; 0 is what comes before and after the policy.
    """

    line: int
    source: str
    program: str


def rows(compiled: Compiled) -> Iterator[ListingRow]:
    """In the order of the program, whose slots are those the kernel's verifier names."""
    listing = compiled.listing
    names = {number: one.name for number, one in enumerate(compiled.maps)}
    lines = iter(line for line, _ in listing)
    file = compiled.policy.function.__code__.co_filename
    before, line, inside = -1, 0, False
    for text in disassemble([one for _, one in listing], names).splitlines():
        if not text.endswith(":"):
            line = next(lines)
        inside = inside or line > 0
        source = ""
        if line != before:
            source = linecache.getline(file, line).rstrip() if line else END if inside else PINS
        before = line
        yield ListingRow(line, source, text)


def listing(compiled: Compiled) -> str:
    """As text in two columns."""
    every = list(rows(compiled))
    width = max(len(row.source) for row in every)
    return "\n".join(
        f"{row.line if row.source and row.line else '':>4} {row.source:<{width}} | {row.program}"
        for row in every
    )
