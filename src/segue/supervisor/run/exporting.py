"""The exporter of metrics: a process of ours, kept alive beside the workers.

It is ``segue metrics``.  What a scraper does, and the library that answers it, stay out of the
supervisor.  It ends when its lifeline closes: at the stop, at an exec of new code, and when the
supervisor dies, however that was.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
from dataclasses import dataclass
from importlib.util import find_spec

from segue.errors import SegueError
from segue.supervisor.control.export_target import LIBRARY, missing_library
from segue.supervisor.loop import Rank
from segue.supervisor.run.service import Service
from segue.supervisor.settings import FIRST_FD, Settings
from segue.supervisor.source import own_program
from segue.supervisor.workers.identity import Rights
from segue.supervisor.workers.pipe import Pipe
from segue.supervisor.workers.spawn import Child, Lowest
from segue.visible import visible

_AGAIN = (1.0, 10.0)  # seconds before the next start: at first, and at most
_LASTED = 60.0  # seconds after which a death is not taken for a start that failed
_PATIENCE_MS = 2000  # for its end, in which it removes its socket or its file
# What it must not take for its own: the listeners and the watchdog are the supervisor's.
_NOT_PASSED_ON = ("FDSTORE", "LISTEN_", "NOTIFY_SOCKET", "SEGUE_", "WATCHDOG_")
_PASSED_ON = "SEGUE_DIRECTORY"


def refuse_impossible(settings: Settings) -> None:
    """Raise NotSupported if metrics are to be exported and the library for it is not installed."""
    if settings.metrics and find_spec(LIBRARY) is None:
        raise missing_library()


@dataclass(slots=True)
class _Running:
    child: Child
    pipe: Pipe
    lifeline: int
    begun: float

    def cut(self) -> None:
        """Let it end; again changes nothing."""
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1


class Exporting:
    """The exporter of one instance; none where no target is set."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._running: _Running | None = None
        self._due = 0.0 if service.settings.metrics else math.inf
        self._pause, self._said = _AGAIN[0], ""

    @property
    def due(self) -> float:
        """When ``step`` has something to do; infinity for never."""
        return self._due

    def step(self) -> None:
        """Start it if that is due.  Raises SegueError, and tries again later."""
        now = self._service.world.now()
        if now < self._due:
            return
        self._due = now + self._pause
        self._start(now)
        self._due = math.inf

    def _start(self, now: float) -> None:
        service = self._service
        pipe = Pipe.open()
        pipe.label = "metrics"
        lifeline, held = os.pipe2(os.O_CLOEXEC)
        try:
            child = service.world.spawn(
                [
                    *own_program(),
                    *("metrics", "--control", service.paths.control),
                    *("--lifeline", str(FIRST_FD), service.settings.metrics),
                ],
                env=_environment(),
                inherit=[lifeline],
                output=pipe.writer,
                identity=None,
                rights=Rights(new_privileges=False),
                files=service.processes.files,
                cgroup_door=None,
                processors_door=None,
                directory=None,
                enter_as_user=False,
                lowest=Lowest(),
            )
        except SegueError:
            pipe.close()
            os.close(held)
            raise
        finally:
            os.close(lifeline)
        pipe.started()
        service.leftovers.spare(child.pid)
        self._running = _Running(child, pipe, held, now)
        service.loop.watch(child.pidfd, self._ended, Rank.ENDED)
        service.flow.add(pipe)

    def _ended(self) -> None:
        """It is not told to end but by us, so something is wrong."""
        words = self._let_go()
        now = self._service.world.now()
        why = visible(words).removeprefix("segue: ") or "it said nothing"
        if why != self._said:
            self._service.warn(f"the exporter of metrics has ended, and is started again: {why}")
            self._said = why
        self._due = now + self._pause
        self._pause = min(2 * self._pause, _AGAIN[1])

    def _let_go(self) -> str:
        """Give back what belongs to a process that ends; its last words."""
        running, self._running = self._running, None
        assert running is not None
        if self._service.world.now() >= running.begun + _LASTED:
            self._pause, self._said = _AGAIN[0], ""
        self._service.loop.unwatch(running.child.pidfd)
        running.cut()
        words = self._service.flow.end(running.pipe)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(running.child.pid, 0)
        os.close(running.child.pidfd)
        return words

    def end(self) -> None:
        """It ends before this returns, and its socket or file is gone; a later step starts it."""
        running = self._running
        if running is None:
            return
        running.cut()
        over = select.poll()
        over.register(running.child.pidfd, select.POLLIN)
        if not over.poll(_PATIENCE_MS):
            signal.pidfd_send_signal(running.child.pidfd, signal.SIGKILL)
        self._let_go()
        self._due = 0.0


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name == _PASSED_ON or not name.startswith(_NOT_PASSED_ON)
    } | {"PYTHONUNBUFFERED": "1"}
