"""Starts of workers: on which listeners, where, what is said of them, and when the next may be."""

from __future__ import annotations

from collections.abc import Callable

from segue.errors import SegueError, StartRefused
from segue.supervisor.lifecycle import crashes
from segue.supervisor.lifecycle.chronicle import CRASH
from segue.supervisor.lifecycle.instance import HeldListener, Start, Worker
from segue.supervisor.lifecycle.stages import Phase, Stage, WorkerInput
from segue.supervisor.run import unclaimed
from segue.supervisor.run.listeners import Listeners
from segue.supervisor.run.service import Service, Unclaimed
from segue.supervisor.workers.place import Place
from segue.supervisor.workers.processes import Process

# Between two tries to start a worker where what it needs is gone: a look costs nothing, and a
# deploy is waited for.
_MENDED_SECONDS = 1.0


class Starts:
    """Starts the workers of one service.

    ``watch`` is called with each process that was started, to follow its end and its output.
    """

    def __init__(
        self, service: Service, listeners: Listeners, watch: Callable[[Process], None]
    ) -> None:
        self.service, self._listeners, self._watch = service, listeners, watch
        self._held_up = ""  # why no worker can be started now, as it was said

    def open_first(self) -> None:
        """Open what the first worker will listen at, so that an address that is not to be had is
        an error of the start, before any process runs.  Raises KernelError.
        """
        generation = self.service.instance.working
        first = Unclaimed("the first worker", generation, self._listeners.open())
        self.service.unclaimed.append(first)

    def _new_worker(
        self, generation: int, listeners: tuple[HeldListener, ...] = (), *, finisher: bool = False
    ) -> Worker:
        instance, now = self.service.instance, self.service.world.now()
        instance.last_worker += 1
        made = Worker(
            instance.last_worker,
            generation,
            0,
            now,
            stage_since=now,
            listeners=listeners,
            finisher=finisher,
        )
        instance.workers[made.id] = made
        return made

    def spawn(self, generation: int) -> None:
        """Start a worker of this generation, unless what the settings name for it is not there."""
        service, instance = self.service, self.service.instance
        place, ran = service.processes.place, instance.starts.get(generation)
        returning = instance.rolled_back and generation == instance.working
        if returning and ran is not None:
            place = place.back_to(ran.resolved)
        if instance.phase is not Phase.STARTING and generation == instance.working:
            # Newcomers are abandoned for it.  The workers that serve are to be all again later.
            try:
                service.processes.check(place)
            except StartRefused as refused:
                self._hold_up(refused)
                return
        worker = self._new_worker(generation, unclaimed.claim(service, generation))
        if returning:
            where = "from what is installed now, which may be the version that was rolled back"
            if place != service.processes.place:
                where = f"in {place.name}, as others of its generation"
            service.say(f"worker {generation}.{worker.id} starts {where}")
        try:
            if not worker.listeners and service.settings.bind_by == "supervisor":
                worker.listeners = self._listeners.open()
            self._start(worker, place)
            self._held_up = ""
        except (SegueError, OSError) as error:
            now = service.world.now()
            worker.outcome, worker.reason = "could not be started", f": {error}"
            worker.feed(WorkerInput.EXIT, now)
            said = f"{worker.name} {worker.outcome}{worker.reason}"
            later = generation == instance.working and instance.phase is not Phase.STARTING
            if later and isinstance(error, StartRefused):
                self._hold_up(error)  # which is no crash of the program
            else:
                if generation == instance.working:
                    self.crashed(now, said)
                service.chronicle.note(CRASH, said)
                service.say(said, "error")
            unclaimed.leave(service, self._listeners, worker, Stage.STARTING)

    def _began(self, worker: Worker, own: Start | None) -> None:
        """Say what a generation runs, and which worker of it runs something else."""
        service, instance = self.service, self.service.instance
        of = instance.starts.get(worker.generation)
        everyone = instance.of(worker.generation)
        if own is None:
            return
        if of is None or not any(one.directory == of.resolved for one in everyone):
            instance.starts[worker.generation] = own
            service.say(f"generation {worker.generation} runs {own}")
        elif of.resolved != own.resolved:
            service.warn(
                f"{worker.name} runs in {own.resolved}, and not in {of.resolved} as others of its"
                f" generation: {own.directory} leads elsewhere now"
            )
        elif of.program != own.program:
            service.warn(
                f"{worker.name} runs {own.program}, and not {of.program} as others of its"
                " generation"
            )

    def finisher(self, left: Unclaimed) -> None:
        """Nothing but a process can take what waits in these listeners: start one for them.

        Raises SegueError or OSError, with nothing changed, when it cannot be started.
        """
        finisher = self._new_worker(left.generation, left.listeners, finisher=True)
        try:
            self._start(finisher, self.service.processes.place)
        except (SegueError, OSError):
            del self.service.instance.workers[finisher.id]
            raise
        self.service.say(f"{left.name} left connections waiting; another worker takes them")

    def _start(self, worker: Worker, place: Place) -> None:
        """Raises SegueError or OSError when it cannot be started, with nothing left behind."""
        service = self.service
        others = any(one.stage is Stage.SERVING for one in service.instance.living)
        # A finisher's clients wait already, and nobody else can take them.
        gently = others and not worker.finisher
        process = service.processes.start(worker, service.fronts, place, gently=gently)
        try:
            self._watch(process)
        except (SegueError, OSError):
            process.kill()
            service.processes.remove(worker.id)
            raise
        if not worker.finisher:
            self._began(worker, process.runs)
        service.write_down()

    def _hold_up(self, refused: StartRefused) -> None:
        """Try again later, and say so once."""
        service, why = self.service, str(refused)
        if why != self._held_up:
            service.say(f"no worker can be started until this is mended: {why}", "error")
        self._held_up = service.outage.last = why
        service.instance.not_before = service.world.now() + _MENDED_SECONDS

    def crashed(self, now: float, said: str) -> None:
        """Take note of a death in the working generation, and put the next start off."""
        instance, limits = self.service.instance, self.service.limits
        instance.crashes = crashes.noted(instance.crashes, now, limits.crash_window)
        instance.not_before = crashes.backoff(instance.crashes, limits.crash_window, now)
        self.service.outage.death(said)
