"""The one loop that owns an instance: events in, moves out, nothing else changes the state.

An event (a signal, an ended worker, a request, a notification, the time) is noted; then the plan
is asked what is due and its moves are performed, until there are none.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING

from segue.engine.select import EngineChoice
from segue.engine.steering import order_of
from segue.linux import proc
from segue.supervisor import notify
from segue.supervisor.control.clients import Clients
from segue.supervisor.control.doors import Doors
from segue.supervisor.control.log import Log
from segue.supervisor.control.paths import Paths
from segue.supervisor.control.server import Control
from segue.supervisor.control.tracing import Tracing
from segue.supervisor.front import Front
from segue.supervisor.lifecycle import plan
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.stages import Phase, Stage, Turn
from segue.supervisor.loop import Loop, Rank
from segue.supervisor.rescue.balancing import Balancing
from segue.supervisor.rescue.rescue import Rescue
from segue.supervisor.run.flow import Flow
from segue.supervisor.run.orders import Requests
from segue.supervisor.run.perform import Moves
from segue.supervisor.run.upkeep import Audit
from segue.supervisor.run.watched import OwnWorkers, thresholds
from segue.supervisor.settings import Settings
from segue.supervisor.workers.discovery import discover
from segue.supervisor.workers.leftovers import Leftovers
from segue.supervisor.workers.processes import Crew, Member
from segue.supervisor.workers.spawn import outcome
from segue.supervisor.workers.survey import Survey
from segue.supervisor.world import World
from segue.visible import visible

if TYPE_CHECKING:
    from segue.supervisor.run.handover import Succession

# While a worker is awaited or drained: soon enough that a restart of a quick server takes tens of
# milliseconds, seldom enough that the looks cost under a tenth of a core.
_PACE = 0.02
# A look that takes long is made again after so many times that, whatever happens meanwhile.
_COST = 10
# Between two looks at an instance where nothing happens: strangers, recycled listeners.
_IDLE_PACE = 1.0
_SELF_BOUND_PACE = 0.1
# A worker that died after serving for so long was no failed start.
_PROVEN = 0.5
_MOST_ROUNDS = 64  # of plan and perform for one event; more means the plan contradicts itself


class Runner:
    """Owns fronts, crew, control socket and inbox from construction to ``close``."""

    def __init__(
        self,
        settings: Settings,
        paths: Paths,
        lock: int,
        log: Log,
        choice: EngineChoice,
        world: World,
        instance: Instance,
    ) -> None:
        # The settings as they are asked for at the moment of the call.
        self.reread: Callable[[], Settings] = lambda: settings
        self.settings, self.paths, self.log = settings, paths, log
        self.choice, self.world, self.instance = choice, world, instance
        self.limits = settings.limits
        self.observer = world.observer()
        self.fronts = [
            Front(
                number, bind, world.steering(choice.engine, settings.program_choice), self.observer
            )
            for number, bind in enumerate(settings.binds)
        ]
        self.crew = Crew(settings, paths, world)
        self.survey = Survey(settings.idle_grace)
        self.requests = Requests(self)
        self.moves = Moves(self)
        self.audit = Audit(self)
        self.loop = Loop(self.say, world.now)
        balanced = settings.balance == "queue"
        self.balancing = Balancing(instance, self.fronts) if balanced else None
        self.rescue = Rescue(
            OwnWorkers(instance, self.crew, self.fronts),
            self.fronts,
            thresholds(settings, self.fronts),
            loop=self.loop,
            say=self.say,
            saw=self.balancing.saw if self.balancing else None,
        )
        self.tracing = Tracing(self.loop, settings.program_choice)
        self.flow = Flow(log, self.loop)
        self.leftovers = Leftovers(world.now, self.say)
        self.exit_code = 0
        self.cut = 0
        self.succession: Succession | None = None  # set to hand over to new code
        self.terminal = os.isatty(0)
        self.doors = Doors(
            paths, lock, Clients(self.loop, self.requests.do), self.loop, self._notified
        )
        self._pace = _PACE
        self._looked = self._surveyed = self._discover_at = 0.0

    # The loop

    def open(self, control: Control | None = None, inbox: notify.Inbox | None = None) -> None:
        """Take orders, by the sockets that a predecessor hands over if it does."""
        self.loop.on_signals({**self.requests.signals, signal.SIGCHLD: self._reap})
        self.doors.open(control, inbox)

    def run(self) -> int:
        """Serve until stopped; the exit code."""
        self.loop.run(self)
        return self.exit_code

    def over(self) -> bool:
        """As in Subject: the instance has ended with all that it left, or new code goes on."""
        ended = self.instance.phase is Phase.ENDED and self.leftovers.due is None
        return (ended and not self.flow.ending) or self.succession is not None

    @property
    def looks(self) -> Rescue:
        """As in Subject."""
        return self.rescue

    def settle(self) -> None:
        """Perform what is due until nothing is, then write it down."""
        lasting = False
        for round_ in range(_MOST_ROUNDS):
            moves = plan.plan(
                self.instance,
                self.survey.held,
                self.limits,
                self.world.now(),
                self.rescue.stalls,
            )
            if not moves:
                # Written once, at the end: between a flip and its shares there is no time to lose.
                if round_:
                    self.moves.release_spares()
                if lasting:
                    self.write_down()
                break
            lasting = lasting or any(plan.lasting(self.instance, move) for move in moves)
            done = [self.loop.attempt(str(move), self._performing(move)) for move in moves]
            if not all(done):
                break  # what could not be is due again at the next look
        else:
            self.say(f"this is a bug in segue: the plan comes to no end, its last move is {moves}")
        self.requests.answer()

    def _performing(self, move: plan.Move) -> Callable[[], None]:
        return lambda: self.moves.perform(move)

    def write_down(self) -> None:
        """Write the record that a next supervisor would take over by."""
        self.loop.attempt(
            f"writing {self.paths.record}, without which no supervisor could take over",
            lambda: self.paths.write_record(
                {
                    "settings": self.settings.to_json(),
                    "instance": self.instance.to_json(),
                    "engine": self.choice.engine,
                    "orders": [order_of(front.steering) for front in self.fronts],
                    "pid": os.getpid(),
                    "cgroup": self.crew.injection.path if self.crew.injection else "",
                }
            ),
        )

    def deadline(self) -> float:
        """As in Subject."""
        now = self.world.now()
        due = plan.deadline(self.instance, self.limits, now)
        for wanted in (self.flow.due, self.leftovers.due):
            if wanted is not None:
                due = min(due, wanted)
        watched = {Stage.STARTING, Stage.DRAINING, Stage.STOPPING}
        pace = _SELF_BOUND_PACE if self.settings.bind_by == "worker" else _IDLE_PACE
        if self.moves.nudges or any(one.stage in watched for one in self.instance.living):
            pace = self._pace
        return min(due, now + pace)

    # Events

    def tick(self) -> None:
        """As in Subject: proofs of readiness, queues, strangers, and what workers print."""
        self.loop.attempt("passing on what workers print", self.flow.round)
        now = self.world.now()
        self.leftovers.step(self.crew)
        waiting = [one for one in self.instance.living if one.stage is Stage.STARTING]
        for nudge in list(self.moves.nudges):
            if nudge.step(now):
                self.moves.nudges.remove(nudge)
                nudge.close()
                if nudge.waiting:
                    self.say(f"{nudge.waiting} migrated connection(s) could not be woken for")
        if self.settings.bind_by == "worker" and now >= self._discover_at:
            for said in discover(self.instance, self.crew, self.fronts):
                self.say(said)
            took = self.world.now() - now
            self._discover_at = now + max(_SELF_BOUND_PACE, _COST * took)
        if waiting:
            # What a worker said before it accepted counts before its accepting does.
            self._notified()
        for worker in waiting:
            self._prove(worker, now)
        ending = {Stage.DRAINING, Stage.STOPPING}
        if now >= self._surveyed + self._pace and any(
            one.stage in ending for one in self.instance.living
        ):
            self._surveyed = now
            before, crowded = self.survey.hidden, self.survey.crowded
            self.survey.look(self.instance, self.crew, self.fronts, now)
            for number in self.survey.crowded - crowded:
                self.say(
                    f"{self.instance.workers[number].name} has too many processes to look at all of"
                    " them: it counts as busy while anybody's connection is left, up to its drain"
                    " limit"
                )
            for number in self.survey.hidden - before:
                self.say(
                    f"{self.instance.workers[number].name} hides what it has open (it changed its"
                    " user, or is not dumpable): it counts as busy while anybody's connection is"
                    " left, up to its drain limit"
                )
            # A look at many thousand connections takes long: keep it under a tenth of the time.
            self._pace = max(_PACE, _COST * (self.world.now() - now))
        self.doors.clients.hurry()
        if self.balancing is not None:
            self.balancing.step(now, self.rescue.stalls, self.rescue.diverted)
        if now >= self._looked + _IDLE_PACE:
            self._looked = now
            self.audit.look()

    def _prove(self, worker: Worker, now: float) -> None:
        member = self.crew.members[worker.id]
        if member.readiness.step(self.fronts, worker.holds, now):
            member.readiness.close()
            worker.feed(Turn.READY, now)
            self.moves.ready_at = self.world.now()
            took = now - worker.started
            self.say(f"{worker.name} is ready after {took:.2f} s")

    def _reap(self, _: int = 0) -> None:
        for pid, code in self.world.reap():
            self._ended(pid, code)

    def _notified(self) -> None:
        users, became = self.crew.users, cache(self.crew.became)  # once a round, and if needed

        def trusts(uid: int) -> bool:
            return uid in users or uid in became()

        ready: dict[int, bool] = {}
        inbox = self.doors.inbox
        for message in inbox.receive(trusts) if inbox else ():
            ready[message.pid] = ready.get(message.pid, False) or message.ready
        if not any(one.stage is Stage.STARTING for one in self.instance.living):
            return  # nobody's word is awaited
        for pid, said in ready.items():
            member = self.crew.of_process(pid)
            if member is not None:
                member.readiness.notified(ready=said)

    def watch_member(self, member: Member) -> None:
        """Follow a member's end and output."""
        pidfd = member.child.pidfd
        self.loop.watch(pidfd, lambda: self._pidfd_ended(member), Rank.ENDED)
        if member.pipe is not None:
            self.flow.add(member.pipe)

    def _pidfd_ended(self, member: Member) -> None:
        self._reap()
        if member.worker.live:
            # Not our child: an earlier supervisor's, and its status went elsewhere.
            self._ended(member.child.pid, None)

    def _ended(self, pid: int, code: int | None) -> None:
        member = next((one for one in self.crew if one.child.pid == pid), None)
        if member is None or not member.worker.live:
            return  # an adopted orphan: reaped, and not judged
        worker, now = member.worker, self.world.now()
        before, entered = worker.stage, worker.since
        worker.outcome = outcome(code)
        if member.pipe is not None:
            said = self.flow.end(member.pipe)
            member.pipe = None
            if said and before is Stage.STARTING:
                worker.outcome += f"; its last words: {visible(said)}"
        self.loop.unwatch(member.child.pidfd)
        last = self.survey.held.get(worker.id, plan.Held())
        worker.feed(Turn.EXIT, now)
        self.crew.remove(worker.id)
        self.rescue.ended(worker.id)
        limit = now + self.limits.stop_timeout
        number = self.settings.signal_number()
        left = self.leftovers.begin(pid, member.flag, number, limit, self.crew)
        if left and code == 0 and not worker.asked:
            worker.outcome += (
                f" and left {proc.describe(sorted(left))} running, which is ended: segue run wants"
                " servers that stay in the foreground, so turn their daemon mode off"
            )
        if before is Stage.KILLED:
            self.cut += last.connections
            self.say(f"{worker.name} was killed; {last.connections} connections cut")
        elif worker.asked:
            self.cut += last.busy
            tail = f"; {last.busy} connections were in use when last seen" if last.busy else ""
            clean = code in {0, -self.settings.signal_number()}
            how = "has stopped" if clean else worker.outcome
            self.say(f"{worker.name} {how}{tail}")
        elif worker.generation == self.instance.working and before is not Stage.DRAINING:
            # One that has served goes on to be replaced at once, however many do: to go without it
            # would make its clients pay.
            if before is not Stage.SERVING or now < entered + _PROVEN:
                self.moves.crashed(now)
            self.say(f"{worker.name} {worker.outcome} while {before.name.lower()}")
        else:
            # Nobody asked a draining one to end: whatever it had is gone.
            self.cut += last.connections
            self.say(f"{worker.name} {worker.outcome} while {before.name.lower()}")
        self.moves.inherit(worker, before)
        if worker.generation not in {self.instance.newcomer, 0} or not worker.holds:
            self.moves.prune()

    def hand_over_to(self, succession: Succession) -> None:
        """Leave the loop after this event; ``succession`` takes the process over."""
        self.tracing.close()  # whose programs would outlive us
        self.succession = succession

    # Words

    def say(self, text: str) -> None:
        """To the log and to whoever waits for a restart."""
        self.log.say(text)
        self.requests.say(text)

    def end(self) -> None:
        """Nothing of the instance goes on: nobody listens for it any more, wherever he has gone."""
        for front in self.fronts:
            self.loop.attempt(f"ending {front.bind.address}", partial(self._end_front, front))

    def _end_front(self, front: Front) -> None:
        said, waited = front.end()
        self.cut += waited
        for text in said:
            self.say(text)

    def close(self) -> None:
        """Close everything that is held; workers that run keep their own."""
        self.rescue.close()
        for member in self.crew:
            self.crew.remove(member.worker.id)
        self.tracing.close()
        self.flow.close()
        for front in self.fronts:
            front.close()
        self.observer.close()
        self.doors.close()
        self.loop.close()
