"""The workers of a ``segue run``, as rescue looks after them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from segue.engine.steering import moves_at_close
from segue.linux.inet_diag import info_of
from segue.observe.stall import LOOKS
from segue.supervisor.front import Front
from segue.supervisor.lifecycle import plan
from segue.supervisor.lifecycle.instance import HeldListener, Worker
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.rescue import balancing
from segue.supervisor.rescue.watched import Depth

if TYPE_CHECKING:
    from segue.supervisor.run.runner import Runner

_WATCHED = frozenset({Stage.SERVING, Stage.DRAINING, Stage.STOPPING})


class CrewWard:
    """A ``Ward``: every listener is held here, so that a queue is a getsockopt away."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        moves = all(moves_at_close(front.steering) for front in runner.fronts)
        self.patience = runner.settings.rescue_after if moves else 0.0
        self.every = self.patience / LOOKS or plan.FOREVER
        if runner.balancing.on:
            self.every = min(self.every, balancing.EVERY)

    @property
    def stall_kill(self) -> float:
        """As in Ward."""
        return self.runner.limits.stall_kill

    @property
    def fronts(self) -> Sequence[Front]:
        """As in Ward."""
        return self.runner.fronts

    def now(self) -> float:
        """As in Ward."""
        return self.runner.world.now()

    def say(self, text: str) -> None:
        """As in Ward."""
        self.runner.say(text)

    def watched(self) -> list[Worker]:
        """As in Ward: nobody while the instance stops."""
        instance = self.runner.instance
        if instance.phase is Phase.STOPPING:
            return []
        return [one for one in instance.living if one.stage in _WATCHED and one.holds]

    def worker(self, number: int) -> Worker:
        """As in Ward."""
        return self.runner.instance.workers[number]

    def processes(self, worker: Worker) -> tuple[int, ...]:
        """As in Ward: its whole tree."""
        return self.runner.crew.members[worker.id].tree()

    def open(self, hold: HeldListener) -> socket.socket | None:
        """As in Ward."""
        held = self._held(hold)
        # socket.dup() would set O_NONBLOCK as it is here, and so for the worker too.
        return None if held is None else socket.socket(fileno=os.dup(held.fileno()))

    def look(self) -> None:
        """As in Ward: nothing to do."""

    def depth(self, hold: HeldListener) -> Depth | None:
        """As in Ward, at the very moment."""
        held = self._held(hold)
        info = None if held is None else info_of(held)
        return None if info is None else Depth(info.unacked, info.sacked)

    def _held(self, hold: HeldListener) -> socket.socket | None:
        return self.runner.fronts[hold.bind].sockets.get(hold.slot)

    def saw(self, now: float, seconds: float, depths: Mapping[int, int]) -> None:
        """As in Ward: what ``--balance queue`` goes by."""
        self.runner.balancing.saw(now, seconds, depths)

    def shared(self, bind: int) -> Collection[int]:
        """As in Ward."""
        return self.runner.fronts[bind].shared

    def move(self, worker: Worker, holds: tuple[HeldListener, ...], own: int) -> int:
        """As in Ward."""
        moves = self.runner.moves
        before = moves.moved
        moves.move(worker, self.processes(worker), holds)
        # Knocks that were not accepted were moved too, and are nobody's connection.
        moved = max(0, moves.moved - before - own)
        moves.moved = before + moved
        return moved

    def watch(self, file: Any, handler: Callable[[], None]) -> None:
        """As in Ward."""
        self.runner.watch(file, handler)

    def unwatch(self, file: Any) -> None:
        """As in Ward."""
        self.runner.selector.unregister(file)
