"""What the end of a worker's process means: for its state, its listeners, and what it left."""

from __future__ import annotations

import contextlib
import signal

from segue.errors import SegueError
from segue.supervisor.lifecycle import plan
from segue.supervisor.lifecycle.chronicle import CRASH
from segue.supervisor.lifecycle.crashes import is_crash
from segue.supervisor.lifecycle.instance import Worker
from segue.supervisor.lifecycle.stages import Phase, Stage, WorkerInput
from segue.supervisor.loop import Rank
from segue.supervisor.rescue.rescue import Rescue
from segue.supervisor.run import unclaimed
from segue.supervisor.run.occupied import connection_at
from segue.supervisor.run.perform import Performer
from segue.supervisor.run.service import Service
from segue.supervisor.workers.processes import Process
from segue.supervisor.workers.spawn import outcome
from segue.visible import visible


class Ends:
    """Hears of ended processes, and judges those that were workers."""

    def __init__(self, service: Service, rescue: Rescue) -> None:
        self.service, self.rescue = service, rescue
        self.performer = Performer(service, rescue, self.watch)

    def watch(self, process: Process) -> None:
        """Follow a process's end and output.  Raises OSError, following neither."""
        loop, number = self.service.loop, process.child.pidfd
        loop.watch(number, lambda: self._pidfd_ended(process), Rank.ENDED)
        try:
            if process.pipe is not None:
                self.service.flow.add(process.pipe)
        except OSError:
            loop.unwatch(number)
            raise

    def _accepted(self, process: Process, now: float) -> bool:
        """It lacked no proof of readiness any more."""
        fronts, listeners = self.service.fronts, process.worker.listeners
        with contextlib.suppress(SegueError, OSError):
            return process.readiness.step(fronts, listeners, now)
        return False

    def reap(self, _: int = 0) -> None:
        """A child has ended, or several."""
        for pid, code in self.service.world.reap():
            self._ended(pid, code)

    def _pidfd_ended(self, process: Process) -> None:
        self.reap()
        if process.worker.live:
            # Not our child: an earlier supervisor's, and its status went elsewhere.
            self._ended(process.child.pid, None)

    def _ended(self, pid: int, code: int | None) -> None:
        process = next((one for one in self.service.processes if one.child.pid == pid), None)
        if process is None or not process.worker.live:
            return  # an adopted orphan: reaped, and not judged
        worker, now = process.worker, self.service.world.now()
        before, entered = worker.stage, worker.stage_since
        # A quota may be used up between two looks.
        accepted = before is Stage.STARTING and code == 0 and self._accepted(process, now)
        worker.outcome = outcome(code)
        worker.spent = before is Stage.SERVING and code == 0
        if code == -signal.SIGKILL and before is not Stage.KILLED:
            worker.outcome += self.service.processes.kills.claim(worker.id)
        said = self._last_said(process)
        words = f"; its last words: {visible(said)}" if said and before is Stage.STARTING else ""
        self.service.loop.unwatch(process.child.pidfd)
        last = self.service.survey.loads.get(worker.id, plan.Load())
        worker.feed(WorkerInput.EXIT, now)
        if before is Stage.SERVING and not worker.stop_requested:
            doing = f"judging the connections of {worker.name}"
            self.service.loop.attempt(doing, lambda: self.service.holding.ended(process))
        self.service.holding.let_go(worker.id)
        # Before anything that the kernel may refuse: a worker is judged once.
        unclaimed.leave(self.service, self.performer.listeners, worker, before)
        self.service.processes.remove(worker.id)
        self.service.carrying.forget(worker.id)
        self.rescue.ended(worker.id)
        worker.missing = ""
        left = self._left_by(process, code, now)
        if left and code == 0 and not worker.stop_requested:
            worker.outcome += (
                f" and left {left}: segue run wants servers that stay in the foreground, so turn"
                " their daemon mode off"
            )
            left = ""
        if code and before is Stage.STARTING and self.service.settings.bind_by == "worker":
            worker.outcome += self._no_port()
        worker.reason = words
        since = now - entered
        crash = is_crash(before, since, code, accepted=accepted)
        self._judge(worker, before, code, last, words, now, crash=crash)
        if left:
            self.service.warn(f"{worker.name} left {left}")
        self.performer.release()
        self.performer.prune()

    def _judge(
        self,
        worker: Worker,
        before: Stage,
        code: int | None,
        last: plan.Load,
        words: str,
        now: float,
        *,
        crash: bool,
    ) -> None:
        """Say how it has ended, count what was cut, and put the next start off after a crash."""
        during = f"{worker.outcome} while {before.name.lower()}{words}"
        if before is Stage.KILLED:
            self.service.cut += last.connections
            said = f"{worker.name} was killed; {last.connections} connection(s) cut"
            self.service.chronicle.note("kill", said)
            self.service.warn(said)
        elif worker.stop_requested:
            self.service.cut += last.busy
            tail = f"; {last.busy} connection(s) in use when last seen" if last.busy else ""
            how = "has stopped" if self._as_told(code) else worker.outcome + words
            said = f"{worker.name} {how}{tail}"
            if self.service.instance.phase is Phase.STARTING:
                # Late or faulty: the next start is put off.
                self.performer.starts.crashed(now, said)
                self.service.chronicle.note(CRASH, said)
            self.service.say(said)
        elif worker.generation == self.service.instance.working and before is not Stage.DRAINING:
            said = f"{worker.name} {during}"
            if crash:
                self.performer.starts.crashed(now, said)
            if crash or code != 0:
                self.service.chronicle.note(CRASH, said)
            self.service.say(said, "error" if crash or code != 0 else "info")
        else:
            # Nobody asked a draining one to end: whatever it had is gone.
            self.service.cut += last.connections
            said = f"{worker.name} {during}"
            if code != 0:
                counts = {"cut": last.connections} if last.connections else {}
                self.service.chronicle.note(CRASH, said, counts=counts)
            self.service.say(said, "error" if code != 0 else "info")

    def _as_told(self, code: int | None) -> bool:
        """A worker that was told to stop ended as it should."""
        number = self.service.settings.signal_number()
        return code in {0, -number, 128 + number}  # the last is a wrapper's word for the second

    def _no_port(self) -> str:
        """What may have kept a worker from its address, for its outcome."""
        for front in self.service.fronts:
            with contextlib.suppress(SegueError):
                why = connection_at(self.service.observer, front.asked)
                if why:
                    return f" ({why})"
        return ""

    def _left_by(self, process: Process, code: int | None, now: float) -> str:
        """What it left running and what becomes of that, in words; "" for nothing."""
        service, leader = self.service, process.child.pid
        if code is not None and service.leftovers.none(service.processes):
            return ""
        if service.settings.leftovers == "keep":
            kept = service.leftovers.keep(leader, process.flag, service.processes)
            return kept and f"{kept} running: left alone"
        limit = now + service.limits.stop_timeout
        if service.instance.stop_by:
            limit = min(limit, service.instance.stop_by)
        number = service.settings.signal_number()
        ended = service.leftovers.end(leader, process.flag, number, limit, service.processes)
        return ended and f"{ended} running: told to stop"

    def _last_said(self, process: Process) -> str:
        """The last line of the worker's output, which ends here."""
        if process.pipe is None:
            return ""
        said = self.service.flow.end(process.pipe)
        process.pipe = None
        return said
