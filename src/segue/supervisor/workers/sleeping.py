"""The connections of a worker that stalls: listed now and then, since it does nothing with them.

What the kernel saw of each grows older meanwhile; whether a request waits unread is known at any
time (``engine/carry_waiting.py``).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from segue.group import Connection

# A list is made again after so long, and after so many times what it took.
_AGAIN_SECONDS, _COST = 0.25, 10
# Of those that have asked for nothing, in one look.
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Held:
    """A connection, its peer as the page has it, and by which numbers which processes have it.

    Then its worker, the number of its address, and how many bytes its owner had read of it when it
    was listed.
    """

    seen: Connection
    who: bytes
    owners: tuple[tuple[int, int], ...]
    worker: int = 0
    bind: int = 0
    read: int = 0

    @property
    def client(self) -> str:
        """HOST:PORT, as a trace shows it."""
        host, port = self.seen.peer
        host = host.removeprefix("::ffff:")
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes, in ascending order."""
        return tuple(sorted({pid for pid, _ in self.owners}))


class Sleeping:
    """Those at one address, by inode."""

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._asked = 0
        self._again = 0.0

    def due(self, now: float) -> bool:
        """It is time to list them, by ``listed``."""
        return now >= self._again

    def listed(self, held: Collection[Held], asked: int, began: float, ended: float) -> None:
        """They were listed, and the kernel asked at ``asked`` (ms)."""
        self._held, self._asked = {one.seen.inode: one for one in held}, asked
        self._again = ended + max(_AGAIN_SECONDS, _COST * (ended - began))

    def take(self, unread: Collection[int], now: int, *, rest: bool) -> list[Held]:
        """Those whose request waits unread, by inode; then, if ``rest``, some of the others.

        As they are at ``now`` (ms), if their worker has done nothing since.  Each is taken once
        until they are listed again, but for what is given ``back``.
        """
        found = [self._held.pop(inode) for inode in unread if inode in self._held]
        old = [inode for inode, one in self._held.items() if one.seen.unread]
        found += [self._held.pop(inode) for inode in old]
        since = now - self._asked
        urgent = [_older(one, since, unread=1) for one in found]
        others = list(self._held)[:_AT_ONCE] if rest else []
        return urgent + [_older(self._held.pop(inode), since, unread=0) for inode in others]

    def back(self, held: Collection[Held], now: int) -> None:
        """There was no time for these."""
        since = now - self._asked
        for one in held:
            self._held[one.seen.inode] = _older(one, -since, unread=0)

    @property
    def left(self) -> int:
        """How many have not been taken."""
        return len(self._held)


def _older(one: Held, ms: int, *, unread: int) -> Held:
    seen = one.seen
    return replace(
        one,
        seen=seen._replace(
            received_ms=seen.received_ms + ms,
            sent_ms=seen.sent_ms + ms,
            unread=max(seen.unread, unread),
        ),
    )
