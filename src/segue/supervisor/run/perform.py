"""The steps of the plan, performed: what they do to processes, listeners and shares.

Each changes the instance by its table first and the world after, or not at all.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import assert_never

from segue.errors import SegueError
from segue.page import CARRYING, DRAINING, SERVING
from segue.supervisor import notify
from segue.supervisor.lifecycle import newcomers, steps
from segue.supervisor.lifecycle.chronicle import FAILED
from segue.supervisor.lifecycle.ending import ENDING
from segue.supervisor.lifecycle.instance import Worker
from segue.supervisor.lifecycle.plan import Load
from segue.supervisor.lifecycle.stages import InstanceInput, Phase, Stage, WorkerInput
from segue.supervisor.lifecycle.turn import awaited
from segue.supervisor.rescue.rescue import Rescue
from segue.supervisor.run import storing, unclaimed
from segue.supervisor.run.listeners import Listeners
from segue.supervisor.run.service import Service, Unclaimed
from segue.supervisor.run.starts import Starts
from segue.supervisor.workers.processes import LOOKED_AT, Process
from segue.supervisor.workers.survey import describe, strangers


class Performer:
    """Performs the steps of the plan for one service.

    ``watch`` is called with each process that was started, to follow its end and its output.
    """

    def __init__(self, service: Service, rescue: Rescue, watch: Callable[[Process], None]) -> None:
        self.service, self.rescue = service, rescue
        self.listeners = Listeners(service)
        self.starts = Starts(service, self.listeners, watch)
        self._told = ""  # how far a restart in steps is, as it was said

    def perform(self, step: steps.Step) -> None:
        """One step, as the plan says it."""
        match step:
            case steps.Spawn(generation):
                self.starts.spawn(generation)
                self._tell()
            case steps.Renew():
                self._renew()
            case steps.Flip(generation, weights):
                self._flip(generation, weights)
            case steps.Advance(weights):
                self._share(weights)
                self._tell()
                notify.tell(STATUS=self._told)
            case steps.Share(weights):
                self._share(weights)
            case steps.Rescue(worker):
                self._rescue(self.service.instance.workers[worker])
            case steps.Carry(worker):
                self._carry(self.service.instance.workers[worker])
            case steps.LetGo(worker):
                self.service.processes.by_worker[worker].tell(DRAINING)
                self.service.carrying.told(worker)
            case steps.Retire(worker):
                self._feed(self.service.instance.workers[worker], WorkerInput.UNSHARE)
            case steps.Replace(worker, why, hangs):
                self._replace(self.service.instance.workers[worker], why, hangs=hangs)
            case steps.Stop(worker, why):
                self.stop(self.service.instance.workers[worker], why)
            case steps.Kill(worker):
                self._kill(self.service.instance.workers[worker])
            case steps.Abandon(generation, why, reason):
                self._abandon(generation, why, reason)
            case steps.GiveUp(why, reason):
                self._give_up(why + reason)
            case steps.Refuse():
                self._refuse()
            case steps.End():
                self.service.instance.feed(InstanceInput.EMPTY)
            case _:
                assert_never(step)

    def _renew(self) -> None:
        """The restart that waited begins."""
        service, instance = self.service, self.service.instance
        assert instance.queued is not None
        instance.feed(InstanceInput.RESTART)
        instance.last_generation += 1
        generation = instance.newcomer = instance.last_generation
        instance.renewal, instance.queued = instance.queued, None
        instance.rolled_back = False
        notify.tell(RELOADING="1", STATUS=f"generation {generation} is starting")
        service.say(f"generation {generation} is starting")
        if stale := service.source.changed():
            service.say(stale)

    def _flip(self, generation: int, weights: steps.Weights) -> None:
        """The kernel first: when it refuses, nothing has changed, and the flip is due again."""
        service, instance = self.service, self.service.instance
        self._steer(weights)
        after = newcomers.flipped(instance, generation)
        instance.feed(InstanceInput.CANARY if after.phase is Phase.CANARY else InstanceInput.READY)
        instance.working, instance.newcomer = after.working, after.newcomer
        if after.phase is Phase.CANARY:
            percent = instance.renewal.percent
            service.say(f"generation {generation} gets {percent:g} % of new connections")
            if instance.queued is not None:
                service.say(f"a restart waits {awaited(instance)}")
        else:
            now = service.world.now()
            service.flipped.at, service.flipped.ms = now, 1000 * (now - service.flipped.ready_at)
            service.say(f"generation {generation} takes all new connections")
            status = f"generation {generation} serves"
            notify.tell(READY="1", STATUS=status, MAINPID=str(os.getpid()))
        self._shared(weights)

    def _share(self, weights: steps.Weights) -> None:
        instance = self.service.instance
        mixed = newcomers.mixture(instance)
        self._steer(weights)
        self._shared(weights)
        now = newcomers.mixture(instance)
        if now != mixed:
            self.service.say(now or f"generation {instance.working} is complete again")

    def _tell(self) -> None:
        """Say how far a restart in steps is, once."""
        found = newcomers.progress(self.service.instance)
        if found and found != self._told:
            self.service.say(found)
        self._told = found

    def _steer(self, weights: steps.Weights) -> None:
        """New connections go by these weights from here on.  Raises KernelError."""
        instance, told = self.service.instance, False
        for front in self.service.fronts:
            slots: dict[int, float] = {}
            for worker, weight in weights:
                listeners = instance.workers[worker].listeners
                mine = [one.slot for one in listeners if one.bind == front.number]
                slots.update({slot: weight / len(mine) for slot in mine})
            if not slots:
                continue
            try:
                front.share(slots)
            except SegueError:
                if told:
                    # Some addresses go by these weights and some by those of before.  Whatever is
                    # planned next, all have to be told anew.
                    instance.shared = ()
                raise
            told = True

    def _shared(self, weights: steps.Weights) -> None:
        """Workers that got a share serve, those that lost theirs drain."""
        instance, by_worker = self.service.instance, dict(weights)
        instance.shared = weights
        for worker in instance.living:
            given = worker.id in by_worker
            if given and worker.stage in {Stage.STANDBY, Stage.DRAINING}:
                self._feed(worker, WorkerInput.SHARE)
            elif not given and worker.stage is Stage.SERVING:
                self._feed(worker, WorkerInput.UNSHARE)
                if instance.renewal.at_once or instance.renewal.cut:
                    self.listeners.move(worker, self.service.processes.by_worker[worker.id].tree())

    def _feed(self, worker: Worker, given: WorkerInput) -> None:
        worker.feed(given, self.service.world.now())
        if given is WorkerInput.UNSHARE:
            self.service.survey.forget(worker.id)
        if worker.stage is not Stage.SERVING:
            self.service.holding.let_go(worker.id)
        process = self.service.processes.by_worker.get(worker.id)
        if process is not None:
            process.tell(self._stage(worker, process))
            if given in {WorkerInput.SHARE, WorkerInput.UNSHARE}:
                process.spare(LOOKED_AT)

    def _stage(self, worker: Worker, process: Process) -> int:
        """What the worker is told of itself."""
        service = self.service
        if service.instance.phase in ENDING:
            return DRAINING
        if worker.stage is Stage.SERVING:
            service.carrying.forget(worker.id)
            return SERVING
        drains = worker.stage is Stage.DRAINING and not worker.finisher
        service.carrying.prepare([process] if drains else [], service.fronts)
        return CARRYING if drains and service.carrying.begin(worker, process) else DRAINING

    def go_on(self) -> None:
        """Tell workers that drained under another supervisor what becomes of their connections."""
        for worker in self.service.instance.living:
            if worker.stage is Stage.DRAINING:
                process = self.service.processes.by_worker[worker.id]
                process.tell(self._stage(worker, process))

    def _carry(self, worker: Worker) -> None:
        service = self.service
        process = service.processes.by_worker[worker.id]
        service.carrying.carry(worker, process, service.fronts)

    def _rescue(self, worker: Worker) -> None:
        rescue = self.rescue
        listeners = rescue.fitting(worker.id)
        if listeners:
            owners = self.service.processes.by_worker[worker.id].tree()
            moved = self.listeners.cycle(worker, owners, listeners)
            self.service.moved += rescue.moved(worker.id, moved)

    def _replace(self, worker: Worker, why: str, *, hangs: bool) -> None:
        """From here on the plan wants one more worker beside it."""
        worker.outgoing, worker.hangs = why, hangs
        self.service.instance.replaced = self.service.world.now()
        said = f"{worker.name} is replaced"
        self.service.chronicle.note("replacement", said, why=why)
        self.service.warn(f"{said}: {why}")

    def stop(self, worker: Worker, why: str) -> None:
        """Send the stop signal, after what still waits has been moved if it can be."""
        process = self.service.processes.by_worker[worker.id]
        drained = worker.stage is Stage.DRAINING
        held = self.service.survey.loads.get(worker.id, Load())
        others = self.service.instance.phase is not Phase.STOPPING
        if (held.queue or worker.hangs) and others:
            self.listeners.move(worker, process.tree())
        self._feed(worker, WorkerInput.STOP)
        carried = self.service.carrying.forget(worker.id)
        tail = f"; of its connections {carried}" if carried else ""
        self.service.say(f"{worker.name} is told to stop: {why}{tail}")
        served = any(one.stage is Stage.SERVING for one in self.service.instance.living)
        # It has an interpreter to end.  With connections it would need the processor for those.
        idle = worker.id in self.service.survey.loads and held.quiet and not held.connections
        if drained and others and served and idle:
            self.service.processes.weights.leave(worker, process.child.pid, worker.stage_since)
        elif not (others and served):
            self.service.processes.weights.release(worker.id)
        process.signal(self.service.settings.signal_number())
        if not others or (
            self.listeners.move_themselves
            and (drained or worker.generation != self.service.instance.working)
        ):
            # From here on the worker's own close is the last: what comes late migrates by it, or
            # is refused at once when nobody is left to serve.
            self.listeners.let_go(worker)

    def _kill(self, worker: Worker) -> None:
        self.service.processes.weights.release(worker.id)  # its end, too, needs a processor
        self.service.processes.by_worker[worker.id].kill()
        self._feed(worker, WorkerInput.KILL)
        self.service.warn(f"{worker.name} is killed: it did not stop in time")

    def _abandon(self, generation: int, why: str, reason: str) -> None:
        """Keep the working generation; the plan stops the newcomers."""
        instance = self.service.instance
        instance.rolled_back = instance.phase is Phase.CANARY  # it had served
        instance.feed(InstanceInput.FAILED)
        self.service.go_back()
        self.service.failed(generation, why, reason=reason)

    def _give_up(self, why: str) -> None:
        service = self.service
        now, limit = service.world.now(), service.limits.stop_limit
        service.instance.leave(InstanceInput.FAILED, now, delay=0.0, limit=limit)
        service.exit_code, service.gave_up = 3, True
        service.waiting.stopped(f"segue run gives up: {why}", 3)
        service.chronicle.note("start", "start of the instance", result=FAILED, why=why)
        service.say(f"giving up: {why}", "error")

    def _refuse(self) -> None:
        """The group at each address first: what comes after that, nobody would wait for."""
        service = self.service
        self.refuse()
        service.instance.feed(InstanceInput.REFUSE)
        for worker in service.instance.living:
            service.survey.forget(worker.id)  # it saw connections before they were refused
            if worker.stage in {Stage.STANDBY, Stage.SERVING}:
                self._feed(worker, WorkerInput.UNSHARE)

    def refuse(self) -> None:
        """No new connections where nobody else listens; what cannot be is said."""
        self.service.tracing.close()  # at whose end the ordinary program would be back
        for front in self.service.fronts:
            where = front.bind.address
            if not self.service.gave_up:
                storing.forget(front)
            others = strangers(front, self.service.processes)
            if others:
                who = describe(others[0])
                self.service.warn(f"{where} has a listener of {who} too, which serves on")
            else:
                if front.standby is not None:
                    self.service.say(
                        f"new connections at {where} wait with the service manager now"
                    )
                doing = f"refusing new connections at {where} while the instance stops"
                self.service.loop.attempt(doing, front.refuse)

    def prune(self) -> None:
        """Forget workers that are gone; a newcomer's is kept, for the plan to see that it fell."""
        instance, limits = self.service.instance, self.service.limits
        keep = instance.newcomer
        if keep is None and instance.phase is Phase.STARTING:
            keep = instance.working
        instance.workers = {
            one.id: one
            for one in instance.workers.values()
            if one.live or (one.generation == keep and not newcomers.excused(instance, one, limits))
        }
        for by_worker in (instance.factors, instance.balance):
            for gone in by_worker.keys() - instance.workers.keys():
                del by_worker[gone]
        used = {instance.working, instance.newcomer}
        used |= {one.generation for one in instance.workers.values()}
        instance.starts = {key: it for key, it in instance.starts.items() if key in used}

    def release(self) -> None:
        """Hand on what waits at listeners of dead workers that no successor will take."""
        for one in unclaimed.for_nobody(self.service, self.listeners):
            doing = f"handing on what waits at {one.name}"
            self.service.loop.attempt(doing, functools.partial(self._hand_on, one))

    def _hand_on(self, left: Unclaimed) -> None:
        """Give what waits there to whoever can take it.  Raises with nothing changed."""
        service = self.service
        waiting = unclaimed.waiting(service, left)
        stopping = service.instance.phase in {Phase.STOPPING, Phase.ENDED}
        if waiting is not None and not left.finisher and not stopping:
            self.starts.finisher(left)
        service.unclaimed.remove(left)
        if waiting is None or left.finisher or stopping:
            if waiting:
                service.cut += waiting
                service.warn(f"{left.name} is gone; {waiting} waiting connections are lost")
            self.listeners.close(left.listeners, left.name, ended=True)
