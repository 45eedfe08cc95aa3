"""The knocks at stalled workers, by which rescue notices that a worker accepts again.

After a cycle the queue is empty, so it cannot show that the worker accepts again.  No client is
left waiting to find out: a *knock* (``readiness``) is a connection of ours.  A worker is awake when
it accepts a knock within the time that counts as stalled.  One that has waited for longer, as the
first mostly has, is followed by another, so that one lucky accept is not enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing

from segue.supervisor.lifecycle.instance import HeldListener
from segue.supervisor.rescue.watched import WatchedWorker
from segue.supervisor.workers.readiness import AGAIN, Knock


class Knocks:
    """One knock at each listener of a worker at a time; owns them.

    ``knock`` makes one.  Knocks accepted within ``patience`` seconds were accepted promptly.
    """

    def __init__(self, knock: Callable[[HeldListener, float], Knock], patience: float) -> None:
        self._knock, self._patience = knock, patience
        self.made: Counter[int] = Counter()  # by worker, as long as it lives
        self._open: dict[int, list[Knock]] = {}  # by worker
        self._again: dict[int, float] = {}  # when to knock again where a knock failed, by worker

    def begin(self, worker: WatchedWorker, now: float) -> None:
        """Connect to each of its listeners, past the table of shares, unless that is being done.

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
        """Look once, and knock if it is time to; True when the worker accepts promptly.

        ``clear`` says that no client waits at the worker: a knock at a full queue is dropped, and
        comes again a second later.
        """
        knocks = self._open.get(worker.id)
        if knocks is None:
            if worker.shares and clear and now >= self._again.get(worker.id, now):
                self.begin(worker, now)
            return False
        accepted = [one.step(now) for one in knocks]
        for one in knocks:
            if one.accepted:
                # At once: a worker that serves one at a time takes the next only then.
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

    def waiting(self, worker: int) -> int:
        """How many of the knocks at this worker it has not accepted yet."""
        return sum(not one.accepted for one in self._open.get(worker, ()))

    def hang_up(self, worker: int) -> int:
        """Close the knocks at this worker; how many it has not accepted."""
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
        """Hang up everywhere."""
        for worker in list(self._open):
            self.hang_up(worker)
