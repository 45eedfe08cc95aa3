"""Which workers have requests that they do not read, on connections that they have accepted.

Known where connections are carried: then their filters write down what comes
(``engine/carry_waiting.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from segue.engine.carry_waiting import Unread, Waiting
from segue.observe.stall import Doubt
from segue.supervisor.loop import HasFileno

# Which worker has which connection is read again at the earliest after so many seconds, and after
# so many times what it took.
_AGAIN, _COST = 0.05, 20


class Samples(Protocol):
    """What carries connections, for those of which a request waits."""

    @property
    def waiting(self) -> Waiting:
        """Where requests are written down."""

    def unread(self) -> list[Unread]:
        """Some that wait to be read.  May raise KernelError."""


class UnreadRequests:
    """Looks at them; ``source`` gives what carries, once there is something.

    ``sockets`` says by their inodes which sockets a worker has, or None if that is not to be known.
    """

    def __init__(
        self,
        source: Callable[[], Samples | None],
        sockets: Callable[[int], frozenset[int] | None],
        now: Callable[[], float],
    ) -> None:
        self._source, self._sockets, self._now = source, sockets, now
        self._owners: dict[int, int] = {}  # from inodes to workers
        self._again = 0.0
        self.some = False  # at the last look, one waited for however short a time

    def look(self, workers: Collection[int], patience: float) -> dict[int, Doubt]:
        """Of these workers those with a request that waits for longer than one event takes.

        Raises KernelError.
        """
        source, now = self._source(), self._now()
        if source is None:
            return {}
        waiting = source.unread()
        self.some = bool(waiting)
        old = [one for one in waiting if Doubt.old(one.since, now, patience)]
        if any(one.inode and one.inode not in self._owners for one in old):
            self._learn(workers)
        found: dict[int, Doubt] = {}
        for one in sorted(old, key=lambda one: one.since):
            owner = self._owners.get(one.inode)
            if owner in workers and owner is not None:
                found.setdefault(owner, Doubt(one.since))
        return found

    def _learn(self, workers: Collection[int]) -> None:
        began = self._now()
        if began < self._again:
            return
        self._owners = {
            inode: worker for worker in workers for inode in self._sockets(worker) or ()
        }
        ended = self._now()
        self._again = ended + max(_AGAIN, _COST * (ended - began))

    def came(self) -> bool:
        """Whether a request has come since this was asked last."""
        source = self._source()
        return source is not None and source.waiting.came()

    def arm(self) -> HasFileno | None:
        """What can be read as soon as a request comes; None while nothing is carried.

        ``some`` says whether one had come before.  Raises KernelError.
        """
        source = self._source()
        if source is None:
            return None
        source.waiting.arm()
        self.some = bool(source.unread())
        return source.waiting.bell

    def disarm(self) -> None:
        """No more."""
        source = self._source()
        if source is not None:
            source.waiting.disarm()
