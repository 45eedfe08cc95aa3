"""The knocks at stalled workers, by which rescue notices that a worker accepts again.

After a cycle the queue is empty, so it cannot show that the worker accepts again.  No client has to
wait to find out: a *knock* (``readiness``) is a connection of ours.  A worker is awake if it
accepts a knock within the patience, which is also the time after which it counts as stalled.  The
first knock mostly waits longer.  Then another one follows, so one lucky accept is not enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing

from segue.supervisor.lifecycle.instance import HeldListener
from segue.supervisor.rescue.watched import WatchedWorker
from segue.supervisor.workers.readiness import AGAIN, Knock


class Knocks:
    """One knock at a time at each listener of a worker; owns the knocks.

    ``knock`` makes one.  A knock is accepted promptly if it is accepted within ``patience``
    seconds.
    """

    def __init__(self, knock: Callable[[HeldListener, float], Knock], patience: float) -> None:
        self._knock, self._patience = knock, patience
        self.made: Counter[int] = Counter()  # by worker, while it lives
        self._open: dict[int, list[Knock]] = {}  # by worker
        self._again: dict[int, float] = {}  # by worker, when to knock again after a failed knock

    def begin(self, worker: WatchedWorker, now: float) -> None:
        """Connect to each of its listeners, without the table of shares, unless a knock is open.

        Raises KernelError or OSError, with nothing left open.
        """
        if worker.id in self._open:
            return
        with ExitStack() as undo:
            made = [undo.enter_context(closing(self._knock(at, now))) for at in worker.listeners]
            undo.pop_all()
        self._open[worker.id] = made
        self.made[worker.id] += len(made)

    def awake(self, worker: WatchedWorker, now: float, *, clear: bool) -> bool:
        """Look once, and knock if a knock is due.  True if the worker accepts promptly.

        ``clear`` means that no client waits at the worker: a knock at a full queue is dropped, and
        repeated a second later.
        """
        knocks = self._open.get(worker.id)
        if knocks is None:
            if worker.shares and clear and now >= self._again.get(worker.id, now):
                self.begin(worker, now)
            return False
        accepted = [one.step(now) for one in knocks]
        for one in knocks:
            if one.accepted:
                # At once: a worker that serves one at a time accepts the next only then.
                one.close()
        if all(accepted) and all(now - one.since <= self._patience for one in knocks):
            return True
        if any(one.failed for one in knocks):
            self.hang_up(worker.id)
            self._again[worker.id] = now + AGAIN
        elif all(accepted):
            self.hang_up(worker.id)
            self.begin(worker, now)
        return False

    def over(self, worker: int, now: float) -> bool:
        """Look once at a knock that was made in doubt.  True if it was accepted or has failed."""
        knocks = self._open.get(worker, [])
        accepted = [one.step(now) for one in knocks]
        if all(accepted) or any(one.failed for one in knocks):
            self.hang_up(worker)
            return True
        return False

    def waiting(self, worker: int) -> int:
        """How many knocks this worker has not accepted yet."""
        return sum(not one.accepted for one in self._open.get(worker, ()))

    def hang_up(self, worker: int) -> int:
        """Close the knocks at this worker, and return how many it had not accepted."""
        waiting = self.waiting(worker)
        for one in self._open.pop(worker, ()):
            one.close()
        return waiting

    def ended(self, worker: int) -> None:
        """Forget a worker whose process is gone."""
        self.hang_up(worker)
        self._again.pop(worker, None)
        self.made.pop(worker, None)

    def close(self) -> None:
        """Close all knocks."""
        for worker in list(self._open):
            self.hang_up(worker)
