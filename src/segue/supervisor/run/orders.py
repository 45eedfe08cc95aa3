"""What people ask of a running instance: verbs from the control socket, and signals.

A verb changes the instance only through its table (stages.py), so an order that makes no sense
now is refused with what would.  Whoever asked for a restart hears how it goes until it is over.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segue.errors import NotSupported, UsageError
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
    Status,
    Stop,
    Trace,
    Weights,
    shown,
)
from segue.supervisor.control.server import Client
from segue.supervisor.lifecycle.stages import Order, Phase, Stage, Turn
from segue.supervisor.run.status import report

if TYPE_CHECKING:
    from segue.supervisor.run.runner import Runner

ORDERS = (*(Restart, Rollback, Promote, Shift, Weights, Scale, Stop, Status, Reexec, Trace, Map),)


@dataclass(slots=True)
class Waiting:
    """A client that waits for one generation to serve, and the older ones to be gone."""

    client: Client
    generation: int
    until_drained: bool = True


class Requests:
    """Verbs and signals of one runner."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.waiting: list[Waiting] = []
        self.stopping: list[Client] = []
        self.signals: dict[int, Callable[[int], object]] = {
            signal.SIGHUP: self._hang_up,
            signal.SIGTERM: self.stop,
            signal.SIGINT: self.stop,
            signal.SIGQUIT: self._fast,
            signal.SIGUSR1: self._pass_on,
            signal.SIGUSR2: lambda _: self.reexec(),
            signal.SIGTTIN: lambda _: self.scale(self.runner.instance.size + 1),
            signal.SIGTTOU: lambda _: self.scale(self.runner.instance.size - 1),
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
                self.scale(request.workers)
                client.end(0, workers=request.workers)
            case Stop():
                self._stop(client, request)
            case Status():
                client.end(0, status=report(self.runner).to_json())
            case Reexec():
                self._reexec(client)
            case Trace():
                self._trace(client, request)
            case Map():
                groups = {str(one.bind.address): one.steering for one in self.runner.fronts}
                map_order.answer(client, request, groups)

    # Restart and its ends

    def restart(
        self,
        *,
        percent: float = 100.0,
        hold: float | None = None,
        at_once: bool = False,
        cut: bool = False,
    ) -> int:
        """Start newcomers; their generation.  Newcomers that are not ready yet are replaced."""
        runner, instance = self.runner, self.runner.instance
        if (at_once or cut) and not all(front.steering.migrates for front in runner.fronts):
            raise NotSupported(
                "moving connections at once",
                "an engine that migrates (segue doctor says why it is not to be had)",
                f"the engine {runner.choice.engine}",
            )
        if percent < 100 and not all(front.steering.weighs for front in runner.fronts):
            raise NotSupported(
                "a canary",
                "an object with the maps 'tables' and 'control', from which it reads shares",
                f"{runner.settings.program_choice} without them",
            )
        runner.audit.keep_paths()  # the newcomers will need them
        before = instance.newcomer
        instance.feed(Order.RESTART)
        instance.last_generation += 1
        instance.newcomer = instance.last_generation
        if before:
            self.failed(before, f"generation {instance.newcomer} was started in its place", 1)
            runner.moves.discard(before)
            instance.newcomer = instance.last_generation
        instance.percent, instance.rolled_back = percent, False
        instance.hold = runner.settings.keep if hold is None else hold
        instance.at_once, instance.cut = at_once, cut
        notify.tell(RELOADING="1", STATUS=f"generation {instance.newcomer} is starting")
        runner.say(f"generation {instance.newcomer} is starting")
        return instance.newcomer

    def failed(self, generation: int, why: str, code: int = 3) -> None:
        """The newcomers of this generation will not do; tell who waits for them."""
        self.runner.say(f"generation {generation} is given up: {why}")
        notify.tell(READY="1", STATUS=f"generation {generation} failed: {why}")
        for one in [one for one in self.waiting if one.generation == generation]:
            self.waiting.remove(one)
            one.client.end(code, error=f"generation {generation} is given up: {why}")

    def say(self, text: str) -> None:
        """Pass a line to every client that waits."""
        for one in self.waiting:
            one.client.say(text)
        for client in self.stopping:
            client.say(text)

    def answer(self) -> None:
        """End the waits that are over."""
        instance = self.runner.instance
        if instance.phase is Phase.SERVING and all(
            one.generation == instance.working for one in instance.living
        ):
            # The restart is over: what it was asked to do must not befall the next scaling down.
            instance.hold, instance.at_once, instance.cut = 0.0, False, False
        for one in list(self.waiting):
            serving = instance.working >= one.generation
            canary = instance.phase is Phase.CANARY and instance.newcomer == one.generation
            older = any(other.generation < one.generation for other in instance.living)
            if canary or (serving and not (one.until_drained and older)):
                self.waiting.remove(one)
                one.client.end(
                    0,
                    generation=one.generation,
                    cut=self.runner.cut,
                    percent=instance.percent if canary else 100.0,
                )

    # Verbs

    def _restart(self, client: Client, request: Restart) -> None:
        generation = self.restart(
            percent=100.0 if request.canary is None else request.canary,
            hold=request.keep,
            at_once=request.now,
            cut=request.cut,
        )
        if request.wait:
            self.waiting.append(Waiting(client, generation, until_drained=not request.keep))
            client.say(f"generation {generation} is starting")
        else:
            client.end(0, generation=generation)

    def _rollback(self, client: Client) -> None:
        runner, instance = self.runner, self.runner.instance
        if instance.phase in {Phase.RENEWING, Phase.CANARY}:
            gone = instance.newcomer
            instance.feed(Order.ROLLBACK)
            self.failed(gone, "it was rolled back", 1)
            runner.moves.discard(gone)
        else:
            back = instance.previous
            if not back:
                raise UsageError(
                    "there is nothing to go back to: the previous generation has been stopped"
                    " (segue restart --keep SECONDS keeps it for a while)"
                )
            instance.feed(Order.ROLLBACK)
            for generation in {one.generation for one in self.waiting if one.generation > back}:
                self.failed(generation, "it was rolled back", 1)
            instance.working, instance.rolled_back = back, True
            instance.hold, instance.at_once, instance.cut = 0.0, False, False
        client.end(0, generation=instance.working)
        runner.say(f"rolled back: generation {instance.working} takes all new connections")

    def _promote(self, client: Client) -> None:
        runner, instance = self.runner, self.runner.instance
        if instance.phase is not Phase.CANARY:
            raise UsageError("there is no canary to promote (segue restart --canary PERCENT)")
        instance.feed(Order.PROMOTE)
        instance.working, instance.newcomer = instance.newcomer, 0
        runner.say(f"generation {instance.working} is promoted and takes all new connections")
        client.end(0, generation=instance.working)

    def _shift(self, client: Client, request: Shift) -> None:
        percent, instance = request.percent, self.runner.instance
        if instance.phase is not Phase.CANARY:
            raise UsageError("there is no canary to shift (segue restart --canary PERCENT)")
        if percent == 0:
            self._rollback(client)
        elif percent == 100:
            self._promote(client)
        else:
            instance.percent = percent
            client.end(0, generation=instance.newcomer, percent=percent)
            self.runner.say(f"generation {instance.newcomer} gets {percent:g} % of new connections")

    def _weights(self, client: Client, request: Weights) -> None:
        instance = self.runner.instance
        for worker in request.weights:
            if worker not in {one.id for one in instance.living}:
                known = ", ".join(f"worker{one.id}" for one in instance.living)
                raise UsageError(f"there is no worker{worker} (there are {known or 'none'})")
        instance.factors |= request.weights
        client.end(0)

    def _trace(self, client: Client, request: Trace) -> None:
        fronts, wanted = self.runner.fronts, request.bind
        named = [one for one in fronts if wanted in {"", one.bind.name, str(one.bind.address)}]
        if not named:
            known = ", ".join(str(one.bind.address) for one in fronts)
            raise UsageError(f"nothing is bound to {shown(wanted)} here (there are {known})")
        front = named[0]
        self.runner.tracing.begin(client, front.number, front.steering, front.borrow)

    def scale(self, size: int) -> None:
        """So many workers from now on."""
        Scale(size)  # which refuses a number that cannot be
        self.runner.instance.feed(Order.SCALE)
        self.runner.instance.size = size
        self.runner.say(f"{size} workers from now on")

    def stop(self, number: int = 0) -> None:
        """Graceful the first time; the second time at once."""
        instance = self.runner.instance
        if instance.phase is Phase.STOPPING and number:
            self._fast(number)
            return
        instance.feed(Order.STOP)
        notify.tell(STOPPING="1")
        for one in list(self.waiting):
            self.waiting.remove(one)
            one.client.end(1, error="the instance was stopped while it restarted")
        self.runner.say("stopping: every worker is told to finish")

    def _hang_up(self, number: int) -> None:
        """A restart, as servers have it; but the end when it is our terminal that has closed."""
        if self.runner.terminal and not os.isatty(0):
            self.stop(number)
        else:
            self.restart()

    def _fast(self, number: int) -> None:
        runner = self.runner
        runner.instance.feed(Order.STOP)
        runner.exit_code = 128 + number
        runner.say("stopping at once: every worker is killed")
        for worker in runner.instance.living:
            if worker.stage is not Stage.KILLED:
                if worker.stage is not Stage.STOPPING:
                    worker.feed(Turn.STOP, runner.world.now())
                worker.feed(Turn.KILL, runner.world.now())
                runner.crew.members[worker.id].kill()

    def _stop(self, client: Client, request: Stop) -> None:
        self.stopping.append(client)  # first, so that it hears how it goes
        try:
            if request.fast:
                self._fast(signal.SIGKILL)
            else:
                self.stop()
        except BaseException:
            self.stopping.remove(client)
            raise

    def _pass_on(self, number: int) -> None:
        for member in self.runner.crew:
            member.signal(number)

    def reexec(self) -> None:
        """Hand everything to this program's new code.  Raises SegueError when that will not run."""
        # Imported here: what succeeds the runner is built from it.
        from segue.supervisor.run import handover as succession  # noqa: PLC0415

        self.runner.hand_over_to(succession.prepare(self.runner))

    def _reexec(self, client: Client) -> None:
        client.say("trying the new code")
        self.reexec()
        client.end(0)

    def handed(self) -> list[tuple[int, int, bool]]:
        """The clients that wait, for a successor: descriptor, generation (0 for a stop), whether
        until the older ones are gone.
        """
        return [
            *((one.client.fileno(), one.generation, one.until_drained) for one in self.waiting),
            *((client.fileno(), 0, False) for client in self.stopping),
        ]

    def adopt(self, handed: list[tuple[int, int, bool]]) -> None:
        """Go on with the clients of a predecessor."""
        for descriptor, generation, until_drained in handed:
            os.set_inheritable(descriptor, False)
            connection = socket.socket(fileno=descriptor)
            connection.setblocking(False)
            client = Client(connection)
            if generation:
                self.waiting.append(Waiting(client, generation, until_drained))
            else:
                self.stopping.append(client)

    def close(self) -> None:
        """The instance has ended: end every wait."""
        for client in self.stopping:
            client.end(0)
        for one in self.waiting:
            one.client.end(1, error="the supervisor ended")
