"""The shortest part of a story that still shows what the whole shows (delta debugging)."""

from __future__ import annotations

from collections.abc import Callable


def shrunk(story: str, shows: Callable[[str], bool]) -> str:
    """Steps left out as long as it still shows; none of those that stay can be left out alone.

    ``shows`` is true of ``story`` itself.  Halves are tried first, then ever smaller parts.
    """
    steps = [line.strip() for line in story.splitlines() if line.strip()]
    part = max(1, len(steps) // 2)
    while True:
        at, fewer = 0, False
        while at < len(steps):
            rest = steps[:at] + steps[at + part :]
            if rest and shows("\n".join(rest)):
                steps, fewer = rest, True
            else:
                at += part
        if part > 1:
            part //= 2
        elif not fewer:
            return "\n".join(steps)
