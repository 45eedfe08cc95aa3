"""The steps of the plan, performed: what they do to processes, listeners and shares.

Each changes the instance by its table first and the world after, or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import assert_never

from segue.engine.nudge import Nudge
from segue.engine.steering import moves_at_close
from segue.errors import SegueError
from segue.group import Listener
from segue.linux import pidfd, proc
from segue.supervisor import notify
from segue.supervisor.front import Front
from segue.supervisor.lifecycle import plan
from segue.supervisor.lifecycle.instance import HeldListener, Worker
from segue.supervisor.lifecycle.stages import InstanceInput, Phase, Stage, WorkerInput
from segue.supervisor.rescue.rescue import Rescue
from segue.supervisor.run.service import Service, Unclaimed
from segue.supervisor.workers.processes import Process


class Performer:
    """Performs the steps of the plan for one service, and decides who inherits a dead worker.

    ``watch`` is called with each process that was started, to follow its end and its output.
    """

    def __init__(self, service: Service, rescue: Rescue, watch: Callable[[Process], None]) -> None:
        self.service, self.rescue, self._watch = service, rescue, watch
        self.nudges: list[Nudge] = []

    def perform(self, step: plan.Step) -> None:
        """One step, as the plan says it."""
        match step:
            case plan.Spawn(generation):
                self._spawn(generation)
            case plan.Flip(generation, weights):
                self._flip(generation, weights)
            case plan.Share(weights):
                self._share(weights)
            case plan.Rescue(worker):
                self._rescue(self.service.instance.workers[worker])
            case plan.Retire(worker):
                self._feed(self.service.instance.workers[worker], WorkerInput.UNSHARE)
            case plan.Stop(worker, why):
                self.stop(self.service.instance.workers[worker], why)
            case plan.Kill(worker):
                self._kill(self.service.instance.workers[worker])
            case plan.Abandon(generation, why):
                self._abandon(generation, why)
            case plan.GiveUp(why):
                self.service.instance.feed(InstanceInput.FAILED)
                self.service.exit_code = 3
                self.service.say(f"giving up: {why}")
            case plan.End():
                self.service.instance.feed(InstanceInput.EMPTY)
            case _:
                assert_never(step)

    def open_first(self) -> None:
        """Open what the first worker will listen at, so that an address that is not to be had is
        an error of the start, before any process runs.  Raises KernelError.
        """
        service = self.service
        listeners = tuple(self._open(front) for front in service.fronts)
        generation = service.instance.working
        service.unclaimed[generation] = [Unclaimed("the first worker", listeners)]

    def _open(self, front: Front) -> HeldListener:
        settings = self.service.settings
        return front.open(backlog=settings.backlog, nodelay=settings.nodelay)

    def _spawn(self, generation: int) -> None:
        instance, now = self.service.instance, self.service.world.now()
        instance.last_worker += 1
        worker = Worker(instance.last_worker, generation, 0, now, stage_since=now)
        instance.workers[worker.id] = worker
        unclaimed = self.service.unclaimed.get(generation, [])
        try:
            if unclaimed:
                worker.listeners = unclaimed.pop().listeners
            elif self.service.settings.bind_by == "supervisor":
                for front in self.service.fronts:
                    worker.listeners = (*worker.listeners, self._open(front))
        except (SegueError, OSError) as error:
            self._not_started(worker, error)
            return
        if instance.rolled_back and generation == instance.working:
            self.service.say(
                f"worker {generation}.{worker.id} starts from what is installed now, which may be"
                " the version that was rolled back"
            )
        self._start(worker)

    def _spawn_finisher(
        self, dead: str, generation: int, listeners: tuple[HeldListener, ...]
    ) -> None:
        """Nothing but a process can take what waits in these listeners: start one for them."""
        instance, now = self.service.instance, self.service.world.now()
        instance.last_worker += 1
        finisher = Worker(
            instance.last_worker,
            generation,
            0,
            now,
            stage_since=now,
            listeners=listeners,
            finisher=True,
        )
        instance.workers[finisher.id] = finisher
        self.service.say(f"{dead} left connections waiting; another worker takes them")
        self._start(finisher)

    def _start(self, worker: Worker) -> None:
        try:
            process = self.service.processes.start(worker, self.service.fronts)
        except (SegueError, OSError) as error:
            self._not_started(worker, error)
            return
        self.service.write_down()
        self._watch(process)

    def _not_started(self, worker: Worker, error: Exception) -> None:
        now = self.service.world.now()
        worker.outcome = f"could not be started: {error}"
        worker.feed(WorkerInput.EXIT, now)
        if worker.generation == self.service.instance.working:
            self.crashed(now)
        self.service.say(f"{worker.name} {worker.outcome}")
        self.inherit(worker, Stage.STARTING)

    def crashed(self, now: float) -> None:
        """Take note of a death in the working generation, and put the next start off."""
        instance, limits = self.service.instance, self.service.limits
        recent = [when for when in instance.crashes if when > now - limits.crash_window]
        instance.crashes = [*recent, now]
        instance.not_before = plan.backoff(instance.crashes, limits, now)

    def _flip(self, generation: int, weights: plan.Weights) -> None:
        """The kernel first: when it refuses, nothing has changed, and the flip is due again."""
        service, instance = self.service, self.service.instance
        self._steer(weights)
        after = plan.flipped(instance, generation)
        instance.feed(InstanceInput.CANARY if after.phase is Phase.CANARY else InstanceInput.READY)
        instance.working, instance.newcomer = after.working, after.newcomer
        if after.phase is Phase.CANARY:
            percent = instance.renewal.percent
            service.say(f"generation {generation} gets {percent:g} % of new connections")
        else:
            now = service.world.now()
            service.flipped.at, service.flipped.ms = now, 1000 * (now - service.flipped.ready_at)
            service.say(f"generation {generation} takes all new connections")
            status = f"generation {generation} serves"
            notify.tell(READY="1", STATUS=status, MAINPID=str(os.getpid()))
        self._shared(weights)

    def _share(self, weights: plan.Weights) -> None:
        self._steer(weights)
        self._shared(weights)

    def _steer(self, weights: plan.Weights) -> None:
        """New connections go by these weights from here on.  Raises KernelError."""
        workers = self.service.instance.workers
        for front in self.service.fronts:
            slots: dict[int, float] = {}
            for worker, weight in weights:
                mine = [one.slot for one in workers[worker].listeners if one.bind == front.number]
                slots.update({slot: weight / len(mine) for slot in mine})
            if slots:
                front.share(slots)

    def _shared(self, weights: plan.Weights) -> None:
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
                    self.move(worker, self.service.processes.by_worker[worker.id].tree())

    def _feed(self, worker: Worker, given: WorkerInput) -> None:
        worker.feed(given, self.service.world.now())
        if given is WorkerInput.UNSHARE:
            self.service.survey.forget(worker.id)
        process = self.service.processes.by_worker.get(worker.id)
        if process is not None:
            process.set_draining(worker.stage is not Stage.SERVING)

    def _rescue(self, worker: Worker) -> None:
        rescue = self.rescue
        listeners = rescue.fitting(worker.id)
        if listeners:
            owners = self.service.processes.by_worker[worker.id].tree()
            self.service.moved += rescue.moved(worker.id, self._cycle(worker, owners, listeners))

    def move(self, worker: Worker, owners: tuple[int, ...]) -> None:
        """Move what waits at this worker's listeners to those that share."""
        self.service.moved += self._cycle(worker, owners, worker.listeners)

    def _cycle(
        self, worker: Worker, owners: tuple[int, ...], listeners: tuple[HeldListener, ...]
    ) -> int:
        """Cycle these listeners; how many connections were moved."""
        process = self.service.processes.by_worker.get(worker.id)

        def same(pid: int) -> bool:
            if process is not None and pid == process.child.pid:
                return not pidfd.ended(process.child.pidfd)
            return proc.parent(pid) in owners

        moved = 0
        for held in listeners:
            try:
                report = self.service.fronts[held.bind].move(held.slot, owners, same)
            except SegueError as error:
                self.service.say(f"what waits at {worker.name} could not be moved: {error}")
                continue
            if report is not None:
                moved += report.moved
        if self.service.choice.nudge:
            self._nudge()
        return moved

    def _nudge(self) -> None:
        """Begin to wake those to whom connections were migrated, where the kernel does not."""
        now = self.service.world.now()
        self.nudges += [
            Nudge(
                front.bind.address,
                front.steering,
                self.service.observer,
                front.cookies_by_slot,
                now,
            )
            for front in self.service.fronts
            if not any(one.address == front.bind.address for one in self.nudges)
        ]

    def stop(self, worker: Worker, why: str) -> None:
        """Send the stop signal, after what still waits has been moved if it can be."""
        process = self.service.processes.by_worker[worker.id]
        held = self.service.survey.loads.get(worker.id, plan.Load())
        others = self.service.instance.phase is not Phase.STOPPING
        if held.queue and others:
            self.move(worker, process.tree())
        self._feed(worker, WorkerInput.STOP)
        self.service.say(f"{worker.name} is told to stop: {why}")
        process.signal(self.service.settings.signal_number())
        if not others or (
            self._moves_itself and worker.generation != self.service.instance.working
        ):
            # From here on the worker's own close is the last: what comes late migrates by it, or
            # is refused at once when nobody is left to serve.
            self.let_go(worker)

    @property
    def _moves_itself(self) -> bool:
        """What a listener holds goes to others when it is closed, and its place may be empty."""
        return all(moves_at_close(front.steering) for front in self.service.fronts)

    def _others_share(self, worker: Worker) -> bool:
        """At each of its addresses somebody else would take what it leaves."""
        own = {(held.bind, held.slot) for held in worker.listeners}
        return all(
            any((front.number, slot) not in own for slot in front.shared)
            for front in self.service.fronts
        )

    def _kill(self, worker: Worker) -> None:
        self._feed(worker, WorkerInput.KILL)
        self.service.say(f"{worker.name} is killed: it did not stop in time")
        self.service.processes.by_worker[worker.id].kill()

    def _abandon(self, generation: int, why: str) -> None:
        """Keep the working generation; the plan stops the newcomers."""
        self.service.instance.feed(InstanceInput.FAILED)
        self.service.instance.newcomer = None
        self.service.failed(generation, why)

    def let_go(self, worker: Worker) -> None:
        """Close our descriptors of a worker's listeners."""
        held, worker.listeners = worker.listeners, ()
        self._close(held)

    def _close(self, listeners: tuple[HeldListener, ...]) -> None:
        for one in listeners:
            self.service.fronts[one.bind].leave(one.slot)
        if self.service.choice.nudge:
            self._nudge()

    def prune(self) -> None:
        """Forget workers that are gone; a newcomer's is kept, for the plan to see that it fell."""
        instance = self.service.instance
        keep = instance.newcomer
        if keep is None and instance.phase is Phase.STARTING:
            keep = instance.working
        instance.workers = {
            one.id: one for one in instance.workers.values() if one.live or one.generation == keep
        }
        for by_worker in (instance.factors, instance.balance):
            for gone in by_worker.keys() - instance.workers.keys():
                del by_worker[gone]

    def inherit(self, worker: Worker, before: Stage) -> None:
        """What becomes of a dead worker's listeners, which are still held here."""
        service, instance = self.service, self.service.instance
        ever = {Stage.SERVING, Stage.DRAINING, Stage.STOPPING, Stage.KILLED}
        served = before in ever or worker.finisher
        stopping = instance.phase in {Phase.STOPPING, Phase.ENDED}
        if service.settings.bind_by == "worker" or stopping or not served:
            again = (
                not stopping
                and not worker.stop_requested
                and worker.generation == instance.working
                and len(worker.listeners) == len(service.fronts)
            )
            if again and service.settings.bind_by == "supervisor":
                self._leave_unclaimed(worker)
            else:
                self.let_go(worker)
        elif before is not Stage.SERVING or (self._moves_itself and self._others_share(worker)):
            # Closed rather than cycled where the kernel migrates: half-open requests stay with a
            # listener over a cycle, and its share would last until the next one.
            held, requests = worker.listeners, service.survey.pending.get(worker.id, {})
            worker.listeners = ()
            self._hand_on(
                worker.name, worker.generation, held,
                finisher=worker.finisher, half_open=any(requests.values()),
            )  # fmt: skip
        else:
            self.move(worker, ())
            self._leave_unclaimed(worker)

    def _leave_unclaimed(self, worker: Worker) -> None:
        held = Unclaimed(worker.name, worker.listeners)
        self.service.unclaimed.setdefault(worker.generation, []).append(held)
        worker.listeners = ()

    def release_unclaimed(self) -> None:
        """Let go of listeners for which no successor will be started any more."""
        instance = self.service.instance
        wanted = instance.of(instance.working, Stage.STARTING, Stage.STANDBY, Stage.SERVING)
        for generation in list(self.service.unclaimed):
            if generation != instance.working or len(wanted) >= instance.size:
                for one in self.service.unclaimed.pop(generation):
                    self._hand_on(one.name, generation, one.listeners)

    def _hand_on(
        self,
        name: str,
        generation: int,
        listeners: tuple[HeldListener, ...],
        *,
        finisher: bool = False,
        half_open: bool = False,
    ) -> None:
        """Give what waits at a dead worker's listeners to whoever can take it.

        ``half_open``: handshakes may be under way there.
        """
        if self._left_over(listeners, half_open=half_open):
            if not finisher:
                self._spawn_finisher(name, generation, listeners)
                return
            lost = sum(seen.queue for one in listeners if (seen := self._listener(one)))
            self.service.cut += lost
            self.service.say(f"{name} died too; {lost} waiting connections are lost")
        self._close(listeners)

    def _left_over(self, listeners: tuple[HeldListener, ...], *, half_open: bool) -> bool:
        """Something still waits in a listener that no close would migrate."""
        return any(
            not self.service.fronts[one.bind].steering.migrates
            and (seen := self._listener(one)) is not None
            and bool(seen.queue or half_open)
            for one in listeners
        )

    def _listener(self, held: HeldListener) -> Listener | None:
        front = self.service.fronts[held.bind]
        return self.service.observer.snapshot(front.bind.address).by_cookie(held.cookie)
