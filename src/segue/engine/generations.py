"""Numbers for generations that no command announces: which listeners came together, in order.

Pure: origins come in (``segue.observe.origin``), numbers go out.  A number once given stays, so
that a restarted worker belongs to the generation of its server, however young the worker is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from segue.observe.origin import Origin

# A set of servers that is started one after the other, or restarted in turn, is one generation:
# each comes at most so long after the one before it.  Longer than a server takes to start, shorter
# than two deployments follow each other.
TOGETHER = 10.0


@dataclass(slots=True)
class Generations:
    """The numbers given so far; ``together`` in seconds."""

    together: float = TOGETHER
    by_start: bool = True
    last: int = 0  # the highest number ever given
    keys: dict[str, int] = field(default_factory=dict)
    started: float = 0.0  # when the last one that joined the highest was started

    def number(self, origin: Origin) -> int:
        """The generation of a listener with this origin.

        A known key has its generation.  An unknown key begins a new generation; but by start, it
        joins the newest one if it was started at most ``together`` after the last of that, or
        earlier. Call it in the order in which the listeners' servers were started.
        """
        known = self.keys.get(origin.key)
        if known is not None:
            return known
        joins = (
            self.by_start
            and self.last in self.keys.values()
            and origin.started <= self.started + self.together
        )
        if not joins:
            self.last += 1
            self.started = origin.started
        self.started = max(self.started, origin.started)
        self.keys[origin.key] = self.last
        return self.last

    def keep(self, numbers: Collection[int]) -> None:
        """Forget the keys of every other generation: a process group's number is used again.

        Not at once when its last listener has gone: a server may start all its workers anew.
        """
        self.keys = {key: number for key, number in self.keys.items() if number in numbers}

    def to_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        return {"last": self.last, "keys": self.keys, "started": self.started}

    def restore(self, plain: dict[str, Any]) -> None:
        """Go on from what ``to_json`` said.

        Raises KeyError, TypeError, ValueError, AttributeError or OverflowError, with nothing
        changed.
        """
        keys = {str(key): int(number) for key, number in plain["keys"].items()}
        last, started = int(plain["last"]), float(plain["started"])
        if not (0 <= last < 1 << 63 and abs(started) < float(1 << 63)):
            raise ValueError("no generation has such a number")
        self.keys, self.last, self.started = keys, last, started
