"""The subject of ``segue run``: what follows from events, and what no descriptor announces.

An event (a signal, an ended worker, a request, a notification, the time) is noted; then the plan
is asked what is due and its steps are performed, until there are none.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import cache, partial

from segue.supervisor import notify
from segue.supervisor.control.server import Control
from segue.supervisor.front import Front
from segue.supervisor.lifecycle import plan
from segue.supervisor.lifecycle.chronicle import STALL
from segue.supervisor.lifecycle.instance import Instance, Renewal, Worker
from segue.supervisor.lifecycle.stages import Phase, Stage, WorkerInput
from segue.supervisor.lifecycle.steps import Kill, Step, Stop
from segue.supervisor.loop import Looks
from segue.supervisor.notify import Inbox
from segue.supervisor.rescue.balancing import Balancing
from segue.supervisor.rescue.hangs import Hangs
from segue.supervisor.rescue.liveness import Liveness, Pace
from segue.supervisor.rescue.rescue import Rescue
from segue.supervisor.rescue.unread import UnreadRequests
from segue.supervisor.rescue.watched import WatchedWorker
from segue.supervisor.run import unclaimed
from segue.supervisor.run.checks import Checks
from segue.supervisor.run.ended import Ends
from segue.supervisor.run.exporting import Exporting
from segue.supervisor.run.orders import Orders
from segue.supervisor.run.recycling import Recycler
from segue.supervisor.run.service import Service
from segue.supervisor.run.stalled import Stalled
from segue.supervisor.run.upkeep import Upkeep
from segue.supervisor.run.watched import OwnWorkers, thresholds
from segue.supervisor.workers.discovery import discover
from segue.supervisor.workers.processes import Process, Processes, part
from segue.supervisor.workers.reasons import Reasons

# While a worker is awaited: soon enough that a restart of a quick server takes tens of
# milliseconds.
_PACE = 0.02
_AWAITED = 0.02  # of the time for which it was awaited already: so much later it is noticed
# A search that takes long is made again after so many times that, whatever happens meanwhile.
_COST = 10
# Between two looks at an instance where nothing happens: strangers, recycled listeners.
_IDLE_PACE = 1.0
_SELF_BOUND_PACE = 0.1
_REASON_PACE = 1.0  # between two looks at what a starting worker does instead of accepting
_LATE = 2.0
_SERVED = (Phase.SERVING, Phase.RENEWING, Phase.CANARY)
_READY = (Stage.STANDBY, Stage.SERVING)
# At each of these, so many workers' pages are looked at for a middleware: all run the same program.
_MARKED = 8
_MOST_ROUNDS = 64  # of plan and perform for one event; more means the plan contradicts itself


class Runner:
    """Runs one service, in its loop."""

    def __init__(self, service: Service) -> None:
        self.service = service
        instance, fronts = service.instance, service.fronts
        balanced = service.settings.balance == "queue"
        self.balancing = Balancing(instance, fronts) if balanced else None
        settings = service.settings
        live = settings.live_question
        pace = Pace(settings.live_every, settings.live_timeout)
        liveness = Liveness(instance, fronts, live, pace, service.warn)
        workers = OwnWorkers(instance, service.processes, fronts, liveness.waiting)
        self.rescue = Rescue(
            workers,
            fronts,
            thresholds(service.settings, fronts),
            loop=service.loop,
            say=service.warn,
            saw=self.balancing.saw if self.balancing else None,
            withdraw=liveness.withdraw,
            over=self._stall_over,
            unread=UnreadRequests(service.carrying.samples, workers.sockets, service.world.now),
        )
        hangs = Hangs(workers, fronts, service.limits.stall_kill, service.warn)
        self.checks = Checks(self.rescue, hangs, liveness)
        self.ends = Ends(service, self.rescue)
        self.performer = self.ends.performer
        self.orders = Orders(service, self.checks)
        self.upkeep = Upkeep(service)
        self.recycler = Recycler(service)
        self.stalled = Stalled(service)
        self.exporting = Exporting(service)
        self._looked = 0.0
        self._discover_at = 0.0
        self._marked = 0  # the worker after the last one whose page was looked at for marks
        every = min(_REASON_PACE, service.limits.ready_timeout / 4)
        self._reasons = Reasons(service.observer, every)

    def open(self, control: Control | None = None, inbox: Inbox | None = None) -> None:
        """Take orders, by the sockets that a predecessor hands over if it does."""
        self.service.loop.on_signals({**self.orders.signals, signal.SIGCHLD: self.ends.reap})
        self.service.doors.open(self.orders.do, self._notified, control, inbox)
        self.performer.go_on()
        instance = self.service.instance
        if control is None and instance.phase in _SERVED:
            # Taken over: a service manager that has started us waits, and there will be no flip.
            status = f"generation {instance.working} serves"
            notify.tell(READY="1", STATUS=status, MAINPID=str(os.getpid()))

    # As in Subject

    def over(self) -> bool:
        """The instance has ended with all that it left, or new code goes on."""
        service = self.service
        ended = service.instance.phase is Phase.ENDED and service.leftovers.due is None
        return (ended and not service.flow.ending) or service.upgrade is not None

    @property
    def looks(self) -> Sequence[Looks]:
        """Those for stalls, and those at what draining workers have in use."""
        return self.rescue, self.service.survey.witnesses

    def settle(self) -> None:
        """Perform what is due until nothing is, then write it down."""
        service, instance = self.service, self.service.instance
        self.stalled.follow(self.rescue.stalls)
        lasting = False
        for round_ in range(_MOST_ROUNDS):
            steps = plan.plan(
                instance,
                service.survey.loads,
                service.limits,
                service.world.now(),
                self.checks.health,
                service.waiting.workers,
                service.carrying.carries,
            )
            if not steps:
                # Written once, at the end: between a flip and its shares there is no time to lose.
                self.performer.release()
                if round_:
                    self.performer.prune()
                if lasting:
                    service.write_down(anew=False)  # each start was written at once
                break
            if self._looked_again(steps):
                continue
            lasting = lasting or any(plan.lasting(instance, step) for step in steps)
            done = [service.loop.attempt(str(step), self._performing(step)) for step in steps]
            if not all(done):
                break  # what could not be is due again at the next look
        else:
            service.say(
                f"this is a bug in segue: the plan comes to no end, its last step is {steps}",
                "error",
            )
        if instance.settled:
            # What the restart was asked to do must not befall the next scaling down.
            instance.renewal = Renewal()
        service.chronicle.look(instance)
        if service.waiting.clients:
            service.waiting.answer(instance, service.cut)

    def _looked_again(self, steps: list[Step]) -> bool:
        """Before a worker is stopped or killed: the last look may be seconds old, at a limit or at
        the end of ``--keep``.  True if there are new facts.
        """
        before = self.service.survey.loads
        ends = [one.worker for one in steps if isinstance(one, Stop | Kill)]
        if not any(worker in before for worker in ends):
            return False
        refresh = partial(self._survey, self.service.survey.refresh)
        self.service.loop.attempt("looking at connections", refresh)
        return self.service.survey.loads is not before

    def _performing(self, step: Step) -> Callable[[], None]:
        return lambda: self.performer.perform(step)

    def _stall_over(self, worker: WatchedWorker, seconds: float, moved: int) -> None:
        its, found = self.service.carrying.of(worker.id), {"moved": moved}
        if its.asleep:  # else they went because it drains, and the restart counts them
            found |= {"carried": its.carried, "lost in a carry": its.lost}
        counts = {name: count for name, count in found.items() if count}
        said = f"{worker.name} accepted nothing"
        stages = {"stalled": round(seconds, 3)}
        self.service.chronicle.note(STALL, said, stages=stages, counts=counts)

    def deadline(self) -> float:
        """The next limit, or the next look at whatever is watched."""
        service, now = self.service, self.service.world.now()
        carries = service.carrying.carries
        due = plan.deadline(service.instance, service.limits, now, carries)
        for wanted in (service.flow.due, service.leftovers.due, service.processes.weights.due):
            if wanted is not None:
                due = min(due, wanted)
        pace = _SELF_BOUND_PACE if service.settings.bind_by == "worker" else _IDLE_PACE
        nudging = bool(self.performer.listeners.nudges)
        starting = [one for one in service.instance.living if one.stage is Stage.STARTING]
        # The last half-open requests of before the flip end at the service manager's listener.
        flipped = service.flipped.at is not None and now < service.flipped.at + _LATE
        late = flipped and any(front.standby for front in service.fronts)
        if starting:
            pace = min(pace, max(_PACE, _AWAITED * (now - min(one.started for one in starting))))
        if nudging or late or service.waiting.returning:
            pace = _PACE
        due = min(due, service.survey.due(service.instance), service.carrying.due)
        due = min(due, service.holding.due, self.exporting.due)
        return min(due, self.checks.due, now + pace)

    def tick(self) -> None:
        """Proofs of readiness, queues, strangers, and what workers print."""
        service, attempt = self.service, self.service.loop.attempt
        attempt("passing on what workers print", service.flow.round)
        now = service.world.now()
        # Each by itself: what cannot be done now, for want of descriptors or by a full disk, must
        # not keep the rest from being done.
        attempt("ending what workers left", lambda: service.leftovers.step(service.processes))
        attempt("waking workers", lambda: self.performer.listeners.step(now))
        unclaimed.collect(service, self.performer.listeners)
        if service.settings.bind_by == "worker" and now >= self._discover_at:
            attempt("looking for listeners of workers", lambda: self._discover(now))
        self._prove_all(now)
        attempt("giving starting workers their weight", lambda: self._weigh(now))
        attempt("looking at connections", lambda: self._survey(service.survey.step))
        attempt("looking at carried connections", service.carrying.settle)
        hold = partial(service.holding.step, service.instance, service.processes, service.fronts)
        attempt("holding connections for a crash", hold)
        attempt("starting the exporter of metrics", self.exporting.step)
        self.checks.step(service.loop)
        self._outage(now)
        service.doors.hurry()
        if self.balancing is not None:
            looks = self.rescue.stalls, self.rescue.diverted
            attempt("balancing", partial(self.balancing.step, now, *looks))
        if now >= self._looked + _IDLE_PACE:
            self._looked = now
            attempt("counting kills for want of memory", service.processes.kills.look)
            attempt("removing groups of workers", service.processes.weights.groups.sweep)
            ready = [one for one in service.instance.living if one.stage in _READY]
            backlogs = partial(self.performer.listeners.give_backlogs, ready)
            attempt("giving listeners their backlog", backlogs)
            self.upkeep.look()
            attempt("looking at what workers use", self.recycler.look)
            attempt("preparing to carry connections", self._prepare_to_carry)
            attempt("keeping the files of the instance", self.orders.keep_files)

    def _prepare_to_carry(self) -> None:
        service = self.service
        processes = list(service.processes)
        begin = self._marked % max(1, len(processes))
        self._marked = begin + _MARKED
        service.carrying.prepare(processes[begin : self._marked], service.fronts)
        service.carrying.follow_interfaces()

    def _discover(self, now: float) -> None:
        service, spent = self.service, time.thread_time()
        try:
            for said in discover(service.instance, service.processes, service.fronts):
                service.say(said)
        finally:
            cost = _COST * (time.thread_time() - spent)
            self._discover_at = now + max(_SELF_BOUND_PACE, cost)

    def _weigh(self, now: float) -> None:
        if said := self.service.processes.weights.look(now):
            self.service.say(said)

    def _prove_all(self, now: float) -> None:
        attempt = self.service.loop.attempt
        waiting = [one for one in self.service.instance.living if one.stage is Stage.STARTING]
        if waiting:
            # What a worker said before it accepted counts before its accepting does.
            attempt("reading notifications", self._notified)
        for worker in waiting:
            attempt(f"asking whether {worker.name} is ready", partial(self._prove, worker, now))

    def _outage(self, now: float) -> None:
        """Say that no worker serves, once a minute, here and to the service manager."""
        service = self.service
        said = service.outage.look(service.instance, now)
        if said:
            service.say(said, "error")
            notify.tell(STATUS=said)

    def _survey(self, look: Callable[[Instance, Processes, list[Front]], None]) -> None:
        """Look at what those hold that are to end, and say of whom that cannot be known."""
        service, survey = self.service, self.service.survey
        hidden, crowded = survey.hidden, survey.crowded
        look(service.instance, service.processes, service.fronts)
        until = "it counts as busy while anybody's connection is left, up to its drain limit"
        for number in survey.crowded - crowded:
            name = service.instance.workers[number].name
            service.warn(f"{name} has too many processes to look at all of them: {until}")
        for number in survey.hidden - hidden:
            name = service.instance.workers[number].name
            service.warn(
                f"{name} hides what it has open (it changed its user, or is not dumpable): {until}"
            )

    # Events

    def _prove(self, worker: Worker, now: float) -> None:
        process = self.service.processes.by_worker[worker.id]
        readiness = process.readiness
        if not readiness.step(self.service.fronts, worker.listeners, now):
            worker.missing = "; ".join(filter(None, (readiness.why, self._reason(process, now))))
        else:
            readiness.close()
            self._reasons.forget(worker.id)
            worker.missing = ""
            self.service.processes.weights.release(worker.id)
            worker.feed(WorkerInput.READY, now)
            self.performer.listeners.give_backlogs([worker])
            self.service.flipped.ready_at = self.service.world.now()
            self.service.say(f"{worker.name} is ready after {now - worker.started:.2f} s")

    def _reason(self, process: Process, now: float) -> str:
        if not process.readiness.silent:
            return ""
        own = frozenset().union(*(front.cookies for front in self.service.fronts))
        return self._reasons.of(process, own, part(len(self.service.processes.by_worker)), now)

    def _notified(self) -> None:
        processes, inbox = self.service.processes, self.service.doors.inbox
        users, became = processes.users, cache(processes.became)  # once a round, and if needed

        def trusts(uid: int) -> bool:
            return uid in users or uid in became()

        ready: dict[int, bool] = {}
        for message in inbox.receive(trusts) if inbox else ():
            ready[message.pid] = ready.get(message.pid, False) or message.ready
        if not any(one.stage is Stage.STARTING for one in self.service.instance.living):
            return  # nobody's word is awaited
        for pid, said in ready.items():
            process = processes.of_process(pid)
            if process is not None:
                process.readiness.notified(ready=said)

    # The end

    def end(self) -> None:
        """Nothing of the instance goes on: nobody listens for it any more, wherever he has gone."""
        self.exporting.end()
        for front in self.service.fronts:
            end = partial(self._end_front, front)
            self.service.loop.attempt(f"ending {front.bind.address}", end)

    def _end_front(self, front: Front) -> None:
        said, waited = front.end()
        self.service.cut += waited
        for text in said:
            self.service.warn(text)

    def close(self) -> None:
        """Close everything that is held; workers that run keep their own."""
        self.checks.close()
        self.service.close()
