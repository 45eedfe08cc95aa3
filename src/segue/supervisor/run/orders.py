"""What people ask of a running instance: verbs from the control socket, and signals.

A verb changes the instance only through its table (stages.py), so an order that makes no sense
now is refused with what would.  Whoever asked for a restart hears how it goes until it is over.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from segue.errors import NotSupported, UsageError
from segue.page import DRAINING
from segue.supervisor import notify
from segue.supervisor.control import map_order
from segue.supervisor.control.requests import (
    Map,
    Promote,
    Reexec,
    Request,
    Restart,
    Rollback,
    Scale,
    Shift,
    ShowStatus,
    Stop,
    Trace,
    Weights,
    shown,
)
from segue.supervisor.control.server import Client
from segue.supervisor.lifecycle import newcomers
from segue.supervisor.lifecycle.ending import ENDING, Meaning, meaning
from segue.supervisor.lifecycle.instance import Renewal, Worker
from segue.supervisor.lifecycle.stages import InstanceInput, Phase, Stage, WorkerInput
from segue.supervisor.lifecycle.turn import awaited, busy, nothing_before
from segue.supervisor.run import upgrade
from segue.supervisor.run.checks import Checks
from segue.supervisor.run.service import Service
from segue.supervisor.run.status import report
from segue.supervisor.run.waiting import SUPERSEDED
from segue.supervisor.workers.callers import Caller
from segue.supervisor.workers.passing import pass_on, unheard
from segue.supervisor.workers.processes import part

ORDERS = (
    *(Restart, Rollback, Promote, Shift, Weights, Scale, Stop, ShowStatus, Reexec, Trace, Map),
)


class Orders:
    """Verbs and signals of one service."""

    def __init__(self, service: Service, checks: Checks) -> None:
        self.service, self.checks = service, checks
        self._terminal = os.isatty(0)
        self._heard: set[int] = set()  # signals that asked for the end
        self._answered: set[int] = set()  # those of them that were said to change nothing
        self._unheard: set[int] = set()  # workers of which it was said that they have no handler
        self.signals: dict[int, Callable[[int], object]] = {
            signal.SIGHUP: self._hang_up,
            signal.SIGTERM: self._end,
            signal.SIGINT: self._end,
            signal.SIGQUIT: self._end,
            signal.SIGUSR1: self._pass_on,
            signal.SIGUSR2: lambda _: self.reexec(),
            signal.SIGTTIN: lambda by: self.scale(self.service.instance.size + 1, _signal(by)),
            signal.SIGTTOU: lambda by: self.scale(self.service.instance.size - 1, _signal(by)),
        }

    def do(self, client: Client, request: Request) -> None:
        """Carry out one request.  Raises SegueError, with nothing changed, when it cannot."""
        if not isinstance(request, ORDERS):
            raise UsageError(
                f"{request.verb} is an order for a group that Segue did not start (orders here:"
                f" {', '.join(one.verb for one in ORDERS)})"
            )
        match request:
            case Restart():
                self._restart(client, request)
            case Rollback():
                self._rollback(client)
            case Promote():
                self._promote(client)
            case Shift():
                self._shift(client, request)
            case Weights():
                self._weights(client, request)
            case Scale():
                self.scale(request.workers, client.who)
                client.end(0, workers=request.workers)
            case Stop():
                self._stop(client, request)
            case ShowStatus(brief):
                client.end(0, status=report(self.service, self.checks).to_json(brief=brief))
            case Reexec():
                self._reexec(client)
            case Trace():
                self._trace(client, request)
            case Map():
                groups = {str(one.bind.address): one.steering for one in self.service.fronts}
                map_order.answer(client, request, groups)

    def restart(
        self, renewal: Renewal | None = None, *, replace: bool = False, by: str = ""
    ) -> int:
        """Ask for a new generation; its number.  The plan begins it, at once or in its turn.

        ``by`` is who asks.  A restart that waits already is superseded.  With ``replace`` the
        newcomers or the canary of the one at work are given up.  Raises SegueError, with nothing
        changed, for what cannot be done here or now.
        """
        service, instance = self.service, self.service.instance
        renewal = renewal or self._usual()
        self._judge(renewal, replace=replace)
        generation = instance.last_generation + 1
        before = ""
        if instance.queued is not None:
            before = ", in place of an earlier one"
            service.waiting.superseded(generation)
        instance.queued = renewal
        service.chronicle.asked(generation, by, str(renewal))
        if replace and instance.newcomer is not None:
            self._give_up(f"generation {generation} takes its place", SUPERSEDED)
        if waits := awaited(instance):
            service.say(f"a restart waits {waits}{before}")
            service.write_down()
        return generation

    def _usual(self) -> Renewal:
        """By the settings.  One that comes in the middle of a restart in steps has its steps."""
        under_way = self.service.instance.renewal.step
        if under_way:
            return Renewal(step=under_way)
        settings = self.service.settings
        return Renewal(keep=settings.keep, step=settings.restart_step)

    def _give_up(self, why: str, code: int) -> None:
        """Give the newcomers or the canary up, and end the clients that wait for them."""
        instance = self.service.instance
        gone = instance.newcomer
        instance.feed(InstanceInput.ROLLBACK)
        self.service.go_back()
        if gone is not None:
            self.service.failed(gone, why, code)

    def _judge(self, renewal: Renewal, *, replace: bool) -> None:
        fronts, phase = self.service.fronts, self.service.instance.phase
        if phase in ENDING:
            raise UsageError("the instance stops: it restarts no more")
        if replace and phase is Phase.STARTING:
            raise UsageError(
                "the first generation is still starting, and no other serves: leave --replace"
                " out, and the restart begins afterwards (segue stop ends the instance)"
            )
        if renewal.step and (renewal.percent < 100 or renewal.keep):
            what = (
                "a canary starts all its workers beside the old ones: leave --canary out"
                if renewal.percent < 100
                else "--keep holds the old workers beside the new ones: give --keep 0"
            )
            raise UsageError(f"{what}, or give --step 0, which restarts all workers at once")
        if (renewal.at_once or renewal.cut) and not all(one.steering.migrates for one in fronts):
            raise NotSupported(
                "moving connections at once",
                "an engine that migrates (segue doctor says why it is not to be had)",
                f"the engine {self.service.choice.engine}",
            )
        if renewal.percent < 100 and not all(one.steering.weighs for one in fronts):
            raise NotSupported(
                "a canary",
                "an object with the maps 'tables' and 'control', from which it reads shares",
                f"{self.service.settings.program_choice} without them",
            )
        self.keep_files()  # the newcomers will need them

    def keep_files(self) -> None:
        """Make anew what somebody removed.  Raises as ``Doors.keep``."""
        service, paths = self.service, self.service.paths
        if service.doors.keep():
            service.warn(f"{paths.control} had been removed: it is there again")
            service.write_down()
        elif service.instance.living and not paths.recorded():
            service.write_down()
            if paths.recorded():
                service.warn(f"{paths.record} had been removed: it is there again")

    # Verbs

    def _restart(self, client: Client, request: Restart) -> None:
        caller, until = self._caller(client, request), request.until
        if caller is not None and caller.worker is not None:
            until = "serving"
        usual = self._usual()
        generation = self.restart(
            Renewal(
                percent=usual.percent if request.canary is None else request.canary,
                keep=usual.keep if request.keep is None else request.keep,
                at_once=request.now,
                cut=request.cut,
                step=usual.step if request.step is None else request.step,
            ),
            replace=request.replace,
            by=client.who,
        )
        waits = awaited(self.service.instance)
        if request.wait:
            # ``keep`` is for somebody who decides about it meanwhile.
            drained = until == "drained" or not (until or request.keep)
            self.service.waiting.for_generation(
                client, generation, until_drained=drained, caller=caller
            )
            if waits:
                client.say(f"this restart waits {waits}")
            return
        if stale := self.service.source.changed():
            client.say(stale)
        client.end(0, generation=generation, waits=waits)

    def _caller(self, client: Client, request: Restart) -> Caller | None:
        """The process that waits for a restart.  Raises UsageError if it would wait for its end."""
        caller = Caller.of(client.pid, self.service.processes) if request.wait else None
        worker = caller.worker if caller else None
        if worker is not None and request.until == "drained":
            raise UsageError(
                f"{worker.name} asks, which would wait for its own end: --wait serving returns"
                " when the new workers serve"
            )
        if worker is not None and worker.stage is Stage.STARTING:
            raise UsageError(
                f"{worker.name} asks, which is starting itself: a restart would wait for it"
                " (--no-wait returns at once)"
            )
        return caller

    def _rollback(self, client: Client) -> None:
        service, instance = self.service, self.service.instance
        too = ""
        if instance.newcomer is not None and instance.phase in {Phase.RENEWING, Phase.CANARY}:
            self._give_up("it was rolled back", 1)
            instance.rolled_back = True
            if instance.queued is not None:
                # It would bring what is installed now, which may be what was just rolled back.
                instance.queued, too = None, "; the restart that waited is given up too"
                service.waiting.rolled_back(instance.working)
        else:
            back = instance.previous
            if back is None or instance.phase is not Phase.SERVING:
                raise UsageError(f"there is nothing to go back to: {nothing_before(instance)}")
            instance.feed(InstanceInput.ROLLBACK)
            service.waiting.rolled_back(back)
            service.chronicle.given_up(instance.working, "it was rolled back", "rolled back")
            instance.working, instance.rolled_back = back, True
            instance.renewal = Renewal(step=instance.renewal.step)
        left = newcomers.mixture(instance)
        service.chronicle.note(
            "rollback", f"rollback to generation {instance.working}", by=client.who
        )
        client.end(0, generation=instance.working, **({"left": left} if left else {}))
        takes = f"generation {instance.working} takes all new connections"
        service.say(f"rolled back: {left or takes}{too}")

    def _promote(self, client: Client) -> None:
        service, instance = self.service, self.service.instance
        if instance.phase is not Phase.CANARY or instance.newcomer is None:
            raise UsageError("there is no canary to promote (segue restart --canary PERCENT)")
        instance.feed(InstanceInput.PROMOTE)
        instance.working, instance.newcomer = instance.newcomer, None
        service.say(f"generation {instance.working} is promoted and takes all new connections")
        what = f"generation {instance.working}, a canary, is promoted"
        service.chronicle.note("promotion", what, by=client.who)
        client.end(0, generation=instance.working)

    def _shift(self, client: Client, request: Shift) -> None:
        percent, instance = request.percent, self.service.instance
        if instance.phase is not Phase.CANARY:
            raise UsageError("there is no canary to shift (segue restart --canary PERCENT)")
        if percent == 0:
            self._rollback(client)
        elif percent == 100:
            self._promote(client)
        else:
            instance.renewal = replace(instance.renewal, percent=percent)
            self.service.write_down()  # no step that follows is lasting by itself
            said = f"generation {instance.newcomer} gets {percent:g} % of new connections"
            self.service.chronicle.note("shift", said, by=client.who)
            client.end(0, generation=instance.newcomer, percent=percent)
            self.service.say(said)

    def _weights(self, client: Client, request: Weights) -> None:
        instance = self.service.instance
        for worker in request.weights:
            if worker not in {one.id for one in instance.living}:
                known = ", ".join(f"worker{one.id}" for one in instance.living)
                raise UsageError(f"there is no worker{worker} (there are {known or 'none'})")
        instance.factors |= request.weights
        self.service.write_down()
        client.end(0)

    def _trace(self, client: Client, request: Trace) -> None:
        fronts, wanted = self.service.fronts, request.bind
        named = [one for one in fronts if wanted in {"", one.bind.name, str(one.bind.address)}]
        if not named:
            known = ", ".join(str(one.bind.address) for one in fronts)
            raise UsageError(f"nothing is bound to {shown(wanted)} here (there are {known})")
        front = named[0]
        if front.refusing:
            raise UsageError("the instance stops, and gets no new connections to show")
        self.service.tracing.begin(client, front.number, front.steering, front.borrow)

    def scale(self, size: int, by: str = "") -> None:
        """So many workers from now on, as this one asks."""
        Scale(size)  # which refuses a number that cannot be
        if why := busy(self.service.instance):
            raise UsageError(f"the number of workers cannot change now: {why}")
        self.service.instance.feed(InstanceInput.SCALE)
        self.service.instance.size = size
        said = f"{size} workers from now on"
        self.service.chronicle.note("scale", said, by=by)
        self.service.say(said)

    def stop(self, by: str = "") -> None:
        """Let every worker finish, as this one asks; again changes nothing."""
        service, instance = self.service, self.service.instance
        if instance.phase in ENDING:
            return
        # Before the first generation serves there is nobody to tell.
        delay = 0.0 if instance.phase is Phase.STARTING else service.limits.stop_delay
        now, limit = service.world.now(), service.limits.stop_limit
        instance.leave(InstanceInput.STOP, now, delay=delay, limit=limit)
        status = "stopping: every worker is told to finish"
        if service.limits.stop_delay and not delay:
            status += " (--stop-delay is for workers that serve, and none does yet)"
        if delay:
            status = f"stopping in {delay:g} s: workers serve on, and can tell clients to go"
        notify.tell(STOPPING="1", STATUS=status)
        service.waiting.stopped("the instance was stopped while it restarted")
        service.say(status)
        service.chronicle.note("stop", "stop of the instance", by=by)
        for process in service.processes:
            process.tell(DRAINING)

    def _end(self, number: int) -> None:
        """A signal asks for the end."""
        meant = meaning(self.service.instance.phase, number, self._heard)
        if meant is Meaning.AT_ONCE:
            self._fast(number, _signal(number))
        elif meant is Meaning.BEGIN:
            self.stop(_signal(number))
        elif number not in self._answered:
            self._answered.add(number)
            self.service.say(
                f"{signal.Signals(number).name}: the instance stops already, and goes on so (INT"
                " twice, QUIT or segue stop --fast end it at once)"
            )
        self._heard.add(number)

    def _hang_up(self, number: int) -> None:
        """A restart, as servers have it; but the end when it is our terminal that has closed."""
        if self._terminal and not os.isatty(0):
            self._end(number)
        else:
            self.service.reopen_output()
            self.restart(by=_signal(number))

    def _fast(self, number: int, by: str) -> None:
        service = self.service
        service.chronicle.note("stop", "stop of the instance, at once", by=by)
        if service.instance.phase not in ENDING:
            service.instance.feed(InstanceInput.STOP)
        if service.instance.phase is Phase.LEAVING:
            service.instance.feed(InstanceInput.REFUSE)
        service.exit_code = 128 + number
        service.say("stopping at once: every worker is killed")
        for worker in service.instance.living:
            if worker.stage is not Stage.KILLED:
                if worker.stage is not Stage.STOPPING:
                    worker.feed(WorkerInput.STOP, service.world.now())
                kill = partial(self._kill, worker)
                # One that cannot be killed is tried again by the plan, and stops no other's end.
                service.loop.attempt(f"killing {worker.name}", kill)

    def _kill(self, worker: Worker) -> None:
        self.service.processes.weights.release(worker.id)
        self.service.processes.by_worker[worker.id].kill()
        worker.feed(WorkerInput.KILL, self.service.world.now())

    def _stop(self, client: Client, request: Stop) -> None:
        caller = Caller.of(client.pid, self.service.processes)
        if caller is not None and caller.worker is not None and not request.fast:
            # It would wait for the end of what it is a part of.
            self.stop(client.who)
            client.end(0)
            return
        self.service.waiting.for_stop(client)  # first, so that it hears how it goes
        try:
            if request.fast:
                self._fast(signal.SIGKILL, client.who)
            else:
                self.stop(client.who)
        except BaseException:
            self.service.waiting.forget(client)
            raise

    def _pass_on(self, number: int) -> None:
        self.service.reopen_output()
        running = list(self.service.processes)
        deaf = [one.worker for one in running if not pass_on(one, number, part(len(running)))]
        new = [one for one in deaf if one.id not in self._unheard]
        self._unheard |= {one.id for one in new}
        if new:
            self.service.warn(unheard([f"worker {one.generation}.{one.id}" for one in new], number))

    def reexec(self) -> None:
        """Hand everything to this program's new code.  Raises SegueError when that will not run."""
        self.service.upgrade = upgrade.prepare(self.service)
        self.checks.liveness.close()  # its pins would outlive us
        self.service.tracing.close()  # whose programs would outlive us

    def _reexec(self, client: Client) -> None:
        client.say("trying the new code")
        self.service.waiting.for_new_code(client)
        try:
            self.reexec()
        except BaseException:
            self.service.waiting.forget(client)
            raise


def _signal(number: int) -> str:
    """Who asked, where only a signal did."""
    return f"signal {signal.Signals(number).name}"
