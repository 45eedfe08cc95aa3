"""The moves of the plan, performed: what they do to processes, listeners and shares.

Each changes the instance by its table first and the world after, or not at all.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from segue.engine.nudge import Nudge
from segue.engine.steering import moves_at_close
from segue.errors import SegueError
from segue.group import Listener
from segue.linux import pidfd, proc
from segue.supervisor import notify
from segue.supervisor.lifecycle import plan
from segue.supervisor.lifecycle.instance import HeldListener, Worker
from segue.supervisor.lifecycle.stages import Order, Phase, Stage, Turn

if TYPE_CHECKING:
    from segue.supervisor.front import Front
    from segue.supervisor.run.runner import Runner


class Moves:
    """Performs what the plan says for one runner, and decides who inherits a dead worker."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        # Dead workers whose listeners wait for their successor, by generation.
        self.spares: dict[int, list[Worker]] = {}
        self.nudges: list[Nudge] = []
        self.moved = 0  # connections moved by cycling a listener
        self.flip_ms: float | None = None  # from the last proof of readiness to the new shares
        self.ready_at = 0.0
        self.flipped_at: float | None = None
        self._flipping = False

    def perform(self, move: plan.Move) -> None:
        """One move, as the plan says it."""
        match move:
            case plan.Spawn(generation):
                self._spawn(generation)
            case plan.Flip(generation):
                self._flip(generation)
            case plan.Share(weights):
                self._share(weights)
            case plan.Rescue(worker):
                self._rescue(self.runner.instance.workers[worker])
            case plan.Retire(worker):
                self._turn(self.runner.instance.workers[worker], Turn.UNSHARE)
            case plan.Stop(worker, why):
                self.stop(self.runner.instance.workers[worker], why)
            case plan.Kill(worker):
                self._kill(self.runner.instance.workers[worker])
            case plan.Abandon(generation, why):
                self.abandon(generation, why)
            case plan.GiveUp(why):
                self.runner.instance.feed(Order.FAILED)
                self.runner.exit_code = 3
                self.runner.say(f"giving up: {why}")
            case plan.End():
                self.runner.instance.feed(Order.EMPTY)

    def open_first(self) -> None:
        """Open what the first worker will listen at, so that an address that is not to be had is
        an error of the start, before any process runs.  Raises KernelError.
        """
        holds: tuple[HeldListener, ...] = ()
        for front in self.runner.fronts:
            holds = (*holds, self._open(front))
        generation = self.runner.instance.working
        self.spares[generation] = [Worker(0, generation, 0, 0.0, holds=holds)]

    def _open(self, front: Front) -> HeldListener:
        settings = self.runner.settings
        return front.open(backlog=settings.backlog, nodelay=settings.nodelay)

    def _spawn(self, generation: int) -> None:
        instance, now = self.runner.instance, self.runner.world.now()
        instance.last_worker += 1
        worker = Worker(instance.last_worker, generation, 0, now, since=now)
        instance.workers[worker.id] = worker
        spares = self.spares.get(generation, [])
        try:
            if spares:
                worker.holds = spares.pop().holds
            elif self.runner.settings.bind_by == "supervisor":
                for front in self.runner.fronts:
                    worker.holds = (*worker.holds, self._open(front))
        except (SegueError, OSError) as error:
            self._not_started(worker, error)
            return
        if instance.rolled_back and generation == instance.working:
            self.runner.say(
                f"worker {generation}.{worker.id} starts from what is installed now, which may be"
                " the version that was rolled back"
            )
        self._start(worker)

    def _spawn_heir(self, dead: Worker) -> None:
        """Nothing but a process can take what waits in this listener: start one for it."""
        self.runner.instance.last_worker += 1
        now = self.runner.world.now()
        heir = Worker(
            self.runner.instance.last_worker, dead.generation, 0, now, since=now, holds=dead.holds
        )
        heir.heir = True
        self.runner.instance.workers[heir.id] = heir
        self.runner.say(f"{dead.name} left connections waiting; another worker takes them")
        self._start(heir)

    def _start(self, worker: Worker) -> None:
        try:
            member = self.runner.crew.start(worker, self.runner.fronts)
        except (SegueError, OSError) as error:
            self._not_started(worker, error)
            return
        self.runner.write_down()
        self.runner.watch_member(member)

    def _not_started(self, worker: Worker, error: Exception) -> None:
        now = self.runner.world.now()
        worker.outcome = f"could not be started: {error}"
        worker.feed(Turn.EXIT, now)
        if worker.generation == self.runner.instance.working:
            self.crashed(now)
        self.runner.say(f"{worker.name} {worker.outcome}")
        self.inherit(worker, Stage.STARTING)

    def crashed(self, now: float) -> None:
        """Take note of a death in the working generation, and put the next start off."""
        instance, limits = self.runner.instance, self.runner.limits
        recent = [when for when in instance.crashes if when > now - limits.crash_window]
        instance.crashes = [*recent, now]
        instance.not_before = plan.backoff(instance.crashes, limits, now)

    def _flip(self, generation: int) -> None:
        instance = self.runner.instance
        if instance.phase is Phase.RENEWING and instance.percent < 100:
            instance.feed(Order.CANARY)
            self.runner.say(
                f"generation {generation} gets {instance.percent:g} % of new connections"
            )
            return
        instance.feed(Order.READY)
        instance.working, instance.newcomer = generation, 0
        self._flipping = True

    def _share(self, weights: tuple[tuple[int, float], ...]) -> None:
        by_worker = dict(weights)
        for front in self.runner.fronts:
            slots: dict[int, float] = {}
            for worker, weight in weights:
                mine = [
                    hold
                    for hold in self.runner.instance.workers[worker].holds
                    if hold.bind == front.number
                ]
                slots.update({hold.slot: weight / len(mine) for hold in mine})
            if slots:
                front.share(slots)
        self.runner.instance.shared = weights
        if self._flipping:
            self._flipping = False
            self.flipped_at = self.runner.world.now()
            self.flip_ms = 1000 * (self.flipped_at - self.ready_at)
            serves = self.runner.instance.working
            self.runner.say(f"generation {serves} takes all new connections")
            notify.tell(READY="1", STATUS=f"generation {serves} serves", MAINPID=str(os.getpid()))
        for worker_ in self.runner.instance.living:
            given = worker_.id in by_worker
            if given and worker_.stage in {Stage.STANDBY, Stage.DRAINING}:
                self._turn(worker_, Turn.SHARE)
            elif not given and worker_.stage is Stage.SERVING:
                self._turn(worker_, Turn.UNSHARE)
                if self.runner.instance.at_once or self.runner.instance.cut:
                    self.move(worker_, self.runner.crew.members[worker_.id].tree())

    def _turn(self, worker: Worker, turn: Turn) -> None:
        worker.feed(turn, self.runner.world.now())
        if turn is Turn.UNSHARE:
            self.runner.survey.forget(worker.id)
        member = self.runner.crew.members.get(worker.id)
        if member is not None:
            member.set_draining(worker.stage is not Stage.SERVING)

    def _rescue(self, worker: Worker) -> None:
        rescue = self.runner.rescue
        listeners = rescue.fitting(worker.id)
        if listeners:
            owners = self.runner.crew.members[worker.id].tree()
            self.moved += rescue.moved(worker.id, self._cycle(worker, owners, listeners))

    def move(self, worker: Worker, owners: tuple[int, ...]) -> None:
        """Move what waits at this worker's listeners to those that share."""
        self.moved += self._cycle(worker, owners, worker.holds)

    def _cycle(
        self, worker: Worker, owners: tuple[int, ...], listeners: tuple[HeldListener, ...]
    ) -> int:
        """Cycle these listeners; how many connections were moved."""
        member = self.runner.crew.members.get(worker.id)

        def same(pid: int) -> bool:
            if member is not None and pid == member.child.pid:
                return not pidfd.ended(member.child.pidfd)
            return proc.parent(pid) in owners

        moved = 0
        for hold in listeners:
            try:
                report = self.runner.fronts[hold.bind].move(hold.slot, owners, same)
            except SegueError as error:
                self.runner.say(f"what waits at {worker.name} could not be moved: {error}")
                continue
            if report is not None:
                moved += report.moved
        if self.runner.choice.nudge:
            self._nudge()
        return moved

    def _nudge(self) -> None:
        """Begin to wake those to whom connections were migrated, where the kernel does not."""
        now = self.runner.world.now()
        self.nudges += [
            Nudge(
                front.bind.address, front.steering, self.runner.observer, front.cookies_by_slot, now
            )
            for front in self.runner.fronts
            if not any(one.address == front.bind.address for one in self.nudges)
        ]

    def stop(self, worker: Worker, why: str) -> None:
        """Send the stop signal, after what still waits has been moved if it can be."""
        member = self.runner.crew.members[worker.id]
        held = self.runner.survey.held.get(worker.id, plan.Held())
        others = self.runner.instance.phase is not Phase.STOPPING
        if held.queue and others:
            self.move(worker, member.tree())
        self._turn(worker, Turn.STOP)
        self.runner.say(f"{worker.name} is told to stop: {why}")
        member.signal(self.runner.settings.signal_number())
        if not others or (self._moves_itself and worker.generation != self.runner.instance.working):
            # From here on the worker's own close is the last: what comes late migrates by it, or
            # is refused at once when nobody is left to serve.
            self.let_go(worker)

    @property
    def _moves_itself(self) -> bool:
        """What a listener holds goes to others when it is closed, and its place may be empty."""
        return all(moves_at_close(front.steering) for front in self.runner.fronts)

    def _others_share(self, worker: Worker) -> bool:
        """At each of its addresses somebody else would take what it leaves."""
        own = {(hold.bind, hold.slot) for hold in worker.holds}
        return all(
            any((front.number, slot) not in own for slot in front.shared)
            for front in self.runner.fronts
        )

    def _kill(self, worker: Worker) -> None:
        self._turn(worker, Turn.KILL)
        self.runner.say(f"{worker.name} is killed: it did not stop in time")
        self.runner.crew.members[worker.id].kill()

    def abandon(self, generation: int, why: str) -> None:
        """Stop the newcomers and keep the working generation."""
        self.runner.instance.feed(Order.FAILED)
        self.runner.requests.failed(generation, why)
        self.discard(generation)

    def discard(self, generation: int) -> None:
        """Stop those of a generation that have no share; the others drain."""
        if self.runner.instance.newcomer == generation:
            self.runner.instance.newcomer = 0
        for worker in self.runner.instance.of(generation, Stage.STARTING, Stage.STANDBY):
            self.stop(worker, "its generation is given up")
        self.prune()

    def let_go(self, worker: Worker) -> None:
        """Close our descriptors of a worker's listeners."""
        for hold in worker.holds:
            self.runner.fronts[hold.bind].leave(hold.slot)
        worker.holds = ()
        if self.runner.choice.nudge:
            self._nudge()

    def prune(self) -> None:
        """Forget workers that are gone; a newcomer's is kept, for the plan to see that it fell."""
        keep = self.runner.instance.newcomer or (
            self.runner.instance.working if self.runner.instance.phase is Phase.STARTING else 0
        )
        self.runner.instance.workers = {
            one.id: one
            for one in self.runner.instance.workers.values()
            if one.live or (keep and one.generation == keep)
        }
        for by_worker in (self.runner.instance.factors, self.runner.instance.balance):
            for gone in by_worker.keys() - self.runner.instance.workers.keys():
                del by_worker[gone]

    def inherit(self, worker: Worker, before: Stage) -> None:
        """What becomes of a dead worker's listeners, which are still held here."""
        ever = {Stage.SERVING, Stage.DRAINING, Stage.STOPPING, Stage.KILLED}
        served = before in ever or worker.heir
        stopping = self.runner.instance.phase in {Phase.STOPPING, Phase.ENDED}
        if self.runner.settings.bind_by == "worker" or stopping or not served:
            again = (
                not stopping
                and not worker.asked
                and worker.generation == self.runner.instance.working
                and len(worker.holds) == len(self.runner.fronts)
            )
            if again and self.runner.settings.bind_by == "supervisor":
                self.spares.setdefault(worker.generation, []).append(worker)
            else:
                self.let_go(worker)
            return
        if before is not Stage.SERVING or (self._moves_itself and self._others_share(worker)):
            # Closed rather than cycled where the kernel migrates: half-open requests stay with a
            # listener over a cycle, and its share would last until the next one.
            self._bequeath(worker)
        else:
            self.move(worker, ())
            self.spares.setdefault(worker.generation, []).append(worker)

    def release_spares(self) -> None:
        """Let go of dead workers' listeners for which no successor will be started any more."""
        instance = self.runner.instance
        wanted = instance.of(instance.working, Stage.STARTING, Stage.STANDBY, Stage.SERVING)
        for generation in list(self.spares):
            if generation != instance.working or len(wanted) >= instance.size:
                for dead in self.spares.pop(generation):
                    self._bequeath(dead)

    def _bequeath(self, worker: Worker) -> None:
        """Give what waits at a dead worker's listeners to whoever can take it."""
        if not self._left_over(worker):
            self.let_go(worker)
        elif not worker.heir:
            self._spawn_heir(worker)
        else:
            lost = sum(seen.queue for hold in worker.holds if (seen := self._listener(hold)))
            self.runner.cut += lost
            self.runner.say(f"{worker.name} died too; {lost} waiting connections are lost")
            self.let_go(worker)

    def _left_over(self, worker: Worker) -> bool:
        """Something still waits in a listener that no close would migrate."""
        return any(
            not self.runner.fronts[hold.bind].steering.migrates
            and (
                (seen := self._listener(hold)) is not None
                and (seen.queue or any(self.runner.survey.pending.get(worker.id, {}).values()))
            )
            for hold in worker.holds
        )

    def _listener(self, hold: HeldListener) -> Listener | None:
        front = self.runner.fronts[hold.bind]
        return self.runner.observer.snapshot(front.bind.address).by_cookie(hold.cookie)
