"""What one ``segue run`` owns, as a record: its parts read and change it, and know not each other.

Only what several parts share is here; what is one part's own business stays there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from typing import Any

from segue.engine.carry_wish import Report
from segue.engine.select import EngineChoice
from segue.engine.steering import order_of
from segue.observe.snapshot import Observer
from segue.supervisor.control.doors import Doors
from segue.supervisor.control.history import History
from segue.supervisor.control.log import Level, Log
from segue.supervisor.control.output_file import redirect
from segue.supervisor.control.paths import Paths
from segue.supervisor.control.tracing import Tracing
from segue.supervisor.front import Front
from segue.supervisor.lifecycle import newcomers
from segue.supervisor.lifecycle.chronicle import FAILED, Chronicle, Event
from segue.supervisor.lifecycle.instance import HeldListener, Instance, Renewal
from segue.supervisor.lifecycle.limits import Limits
from segue.supervisor.lifecycle.outage import Outage
from segue.supervisor.lifecycle.seats import later
from segue.supervisor.loop import Loop
from segue.supervisor.run.flow import Flow
from segue.supervisor.run.record import Record
from segue.supervisor.run.waiting import SUPERSEDED, Waiting
from segue.supervisor.settings import Settings
from segue.supervisor.source import Source
from segue.supervisor.workers.carrying import Carrying
from segue.supervisor.workers.holding import Holding
from segue.supervisor.workers.leftovers import Leftovers
from segue.supervisor.workers.processes import Processes
from segue.supervisor.workers.sleeping import Held
from segue.supervisor.workers.survey import Survey
from segue.supervisor.workers.ticks import Ticks
from segue.supervisor.world import World


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """Listeners of a dead worker, held until somebody else has what waits there."""

    name: str  # of the worker, for sentences
    generation: int
    listeners: tuple[HeldListener, ...]
    successor: bool = True  # another worker may be started on them
    finisher: bool = False  # the worker was one
    half_open: bool = False  # handshakes may be under way there
    knocks: int = 0  # connections of our own that wait there


@dataclass(slots=True)
class Flipped:
    """How the last flip went."""

    ready_at: float = 0.0  # when the last newcomer was found ready
    at: float | None = None
    ms: float | None = None  # from that moment to the new shares


@dataclass(frozen=True, slots=True)
class Upgrade:
    """New code that has read its handover, and can be become."""

    argv: tuple[str, ...]
    settings: Settings  # as they are read now
    source: Source


# What has become of a restart, by the exit code of those who wait for it.
_RESULTS = {1: "rolled back", SUPERSEDED: "superseded"}

# Reads the settings as they are asked for now.  It gets the directory of the start by name.
Reread = Callable[[str], tuple[Settings, Source]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What ``segue run`` was asked for, and how to ask again."""

    settings: Settings
    source: Source
    reread: Reread


@dataclass(slots=True)
class Service:
    """Closes what it opened; workers that run keep their own."""

    settings: Settings
    paths: Paths
    lock: InitVar[int]
    log: Log
    choice: EngineChoice
    world: World
    instance: Instance
    source: Source  # where the settings came from
    reread: Reread
    observer: Observer = field(init=False)
    loop: Loop = field(init=False)
    doors: Doors = field(init=False)
    fronts: list[Front] = field(init=False)
    processes: Processes = field(init=False)
    survey: Survey = field(init=False)
    carrying: Carrying = field(init=False)
    holding: Holding = field(init=False)
    limits: Limits = field(init=False)  # the times and counts that the plan goes by
    tracing: Tracing = field(init=False)
    flow: Flow = field(init=False)
    waiting: Waiting = field(init=False)
    leftovers: Leftovers = field(init=False)
    ticks: Ticks = field(init=False)
    history: History = field(init=False)
    chronicle: Chronicle = field(init=False)
    unclaimed: list[Unclaimed] = field(default_factory=list)
    flipped: Flipped = field(default_factory=Flipped)
    outage: Outage = field(default_factory=Outage)
    moved: int = 0  # connections moved by cycling a listener
    cut: int = 0  # accepted connections that were closed before they were finished
    exit_code: int = 0
    gave_up: bool = False  # no worker could be started, and a service manager may try again
    upgrade: Upgrade | None = None  # the new code that everything is to be handed to
    _written: dict[str, Any] | None = None  # the last record

    def __post_init__(self, lock: int) -> None:
        settings, world = self.settings, self.world
        self.observer = world.observer()
        self.waiting = Waiting(world.now)
        self.loop = world.loop(self.warn, world.now)
        self.doors = Doors(self.paths, lock, self.loop)
        self.leftovers = Leftovers(world.now, self.warn, self.waiting.spared)
        self.carrying = Carrying(
            settings.carry,
            settings.idle_grace,
            self.observer,
            world.now,
            world.carrier,
            self.leftovers.spare,
            self.say,
        )
        engine, program = self.choice.engine, settings.program_choice
        self.fronts = [
            Front(
                number,
                bind,
                world.steering(engine, program),
                self.observer,
                world.listen,
                settings.v6only(bind.address),
                watch=self.carrying.watch,
            )
            for number, bind in enumerate(settings.binds)
        ]
        self.processes = Processes(settings, self.paths, world.spawn, self.source.start)
        self.ticks = self.processes.weights.ticks = Ticks(self.leftovers.spare)
        self.holding = Holding(
            settings, self.carrying, self.loop, world.now, world.sockets, self.say
        )
        self.carrying.open(locked=self.processes.locks)
        self.survey = Survey(self.observer, settings.idle_grace, world.now)
        self.limits = settings.limits
        self.history = History(self.paths)
        self.chronicle = Chronicle(self._remember, world.now, world.clock, self._counts)
        self.tracing = Tracing(self.loop, program)
        self.carrying.told_of = self._trace_carried
        self.flow = Flow(self.log, self.loop)

    def _trace_carried(self, held: Held, report: Report) -> None:
        worker = self.instance.workers[held.worker]
        self.tracing.tell(
            held.bind,
            {
                "carried": held.client,
                "from": f"worker {worker.generation}.{worker.id}",
                "when": time.monotonic(),
                "unread": report.unread,
                "fate": "carried" if report.carried else "delayed" if report.pending else "lost",
            },
        )

    def say(self, text: str, level: Level = "info") -> None:
        """To the log, and to every client that waits."""
        self.log.say(text, level)
        for client in self.waiting.clients:
            client.say(text)

    def warn(self, text: str) -> None:
        """The same of what an operator should know of: something fails, or is not as asked."""
        self.say(text, "warning")

    def _remember(self, event: Event) -> None:
        doing = f"writing {self.paths.history}, which segue history shows"
        self.loop.attempt(doing, lambda: self.history.write(event))

    def _counts(self) -> dict[str, int]:
        """What has become of connections that were not just served."""
        carried = self.carrying.total
        found = {"moved": self.moved, "carried": carried.carried}
        return {**found, "lost in a carry": carried.lost, "cut": self.cut}

    def go_back(self) -> None:
        """Give newcomers up; what the restart was asked to do must not befall those that serve."""
        self.instance.newcomer = None
        if later(self.instance):
            self.instance.rolled_back = True
            self.instance.renewal = Renewal(step=self.instance.renewal.step)

    def failed(self, generation: int, why: str, code: int = 3, *, reason: str = "") -> None:
        """The newcomers of this generation will not do: to the clients that wait for them, with
        the reason, and to the log, which has the reason already.
        """
        left = newcomers.mixture(self.instance)
        tail = f"; {left}" if left else ""
        self.waiting.failed(generation, why + reason + tail, code)
        self.chronicle.given_up(generation, why + reason, _RESULTS.get(code, FAILED))
        self.say(f"generation {generation} is given up: {why}{tail}", "error")

    def reopen_output(self) -> None:
        """Open the output file by its name again, which may be another file's now."""
        path = self.settings.output_file
        if path:
            self.log.finish()
            users = self.processes.users
            self.loop.attempt(f"opening {path} again", lambda: redirect(path, users))

    def write_down(self, *, anew: bool = True) -> None:
        """Write the record that a next supervisor would take over by; a refusal is said.

        Without ``anew`` it is not written where the last one says the same.
        """
        plain = self.record().to_json()
        if not anew and plain == self._written:
            return
        written = self.loop.attempt(
            f"writing {self.paths.record}, without which no supervisor could take over",
            lambda: self.paths.write_record(plain),
        )
        self._written = plain if written else None

    def record(self) -> Record:
        """The instance as a next supervisor would find it."""
        orders = tuple(tuple(order_of(front.steering)) for front in self.fronts)
        cgroup = self.processes.injection.path if self.processes.injection else ""
        left = tuple(dict(front.left) for front in self.fronts)
        return Record(self.settings, self.instance, self.choice.engine, orders, cgroup, left)

    def remember_left(self, record: Record) -> None:
        """The listeners that workers had left when this record was made."""
        for front, left in zip(self.fronts, record.left, strict=False):
            front.left.update(left)

    def close(self) -> None:
        """Close everything that is held."""
        for process in self.processes:
            self.processes.remove(process.worker.id)
        self.processes.weights.groups.sweep()
        self.holding.close()
        self.carrying.close()
        self.ticks.close()
        self.tracing.close()
        self.flow.close()
        for front in self.fronts:
            front.close()
        self.observer.close()
        self.doors.close()
        self.loop.close()
